"""The house rule: a module imports only from lower floors, and data modules never import jax."""

import ast
import pathlib
import subprocess
import sys

import pytest

from tests.paths import ROOT

PACKAGE = ROOT / "vlmo_jax"

# The longest prefix decides: most files stand on the floor of their room.
FLOORS = {
    "commands": 0,
    "parallel": 0,
    "reports.metrics": 0,
    "datasets": 1,
    "input": 1,
    "layers": 1,
    "objectives": 1,
    "reports": 1,
    "models": 2,  # models.build joins them
    "checkpoints.param_names": 2,
    "tasks": 3,
    "interop": 3,
    "training.partition": 3,
    "training.layer_decay": 3,
    "training.averaging": 3,
    "training.optimizer": 4,
    "training.train_step": 4,
    "checkpoints": 4,
    "evals": 4,
    "recipes": 5,
    "interop.check": 5,
    "interop.checks": 5,
    "interop.convert": 5,
    "interop.formats": 5,
    "interop.recipe_configs": 5,
    "training": 6,
    "bench": 7,
    "main": 7,
    "experiments": 8,
    "chain": 9,
    "compare": 9,
}
# Rooms of one floor that may look into each other, in this direction only, and why.
SAME_FLOOR = {
    ("input", "datasets"),  # a batch is made of records
    ("datasets.stats", "input"),  # shows what a tokenizer makes of the texts
}


def floor(module):
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in FLOORS:
            return ".".join(parts[:length]), FLOORS[".".join(parts[:length])]
    raise AssertionError(f"vlmo_jax.{module} has no floor; give it one in {__file__}")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield path, name.removesuffix(".__init__")


def module_exists(name):
    path = PACKAGE / pathlib.Path(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


@pytest.mark.parametrize(
    "path, name",
    [m for m in modules() if m[1] != "__init__"],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_imports_run_down(path, name):
    room, level = floor(name)
    for other in imported(path):
        if not other.startswith("vlmo_jax.") or not module_exists(other.removeprefix("vlmo_jax.")):
            continue
        other = other.removeprefix("vlmo_jax.")
        other_room, other_level = floor(other)
        allowed = (
            other_level < level or other_room == room or level in (4, 5) and other_level == level
        )
        allowed = allowed or any(name.startswith(a) and other.startswith(b) for a, b in SAME_FLOOR)
        assert allowed, (
            f"vlmo_jax.{name} (floor {level}) imports vlmo_jax.{other} (floor {other_level})"
        )


def test_configs_import_only_ml_collections_and_common():
    for path in (ROOT / "configs").glob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] in (
                "ml_collections",
                "configs",
            ), f"{path.name} imports {name}"


def test_data_sets_import_without_jax():
    modules = "vlmo_jax.datasets, vlmo_jax.input.text.tokenizer"
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_training_needs_neither_tensorflow_nor_torch():
    code = (
        "import sys, vlmo_jax.main; sys.exit(any(name in sys.modules for name in ('tensorflow',"
        " 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_file_is_too_long():
    long = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert not {name: lines for name, lines in long.items() if lines > 420}
