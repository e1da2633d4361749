"""`vlmo` has every command of the project, and says so at once."""

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.paths import ROOT
from vlmo_jax import __main__ as console
from vlmo_jax.commands.table import COMMANDS, in_short, manual

# Run by other commands, or once to make what the package ships.
INTERNAL = {
    "datasets.emoji",
    "datasets.glosses",
    "datasets.made.questions",
    "datasets.openclipart",
    "experiments.measure",
    "parallel.peers",
}


def programs():
    """All modules that `python -m` runs."""
    for path in (ROOT / "vlmo_jax").rglob("*.py"):
        if re.search(r'^if __name__ == "__main__":', path.read_text(), re.M):
            parts = path.relative_to(ROOT / "vlmo_jax").with_suffix("").parts
            yield ".".join(parts).removesuffix("__main__").removesuffix(".")


def test_every_command_is_in_the_table():
    assert {*programs()} - {""} == {command.module for command in COMMANDS.values()} | INTERNAL


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists(name):
    spec = importlib.util.find_spec(f"vlmo_jax.{COMMANDS[name].module}")
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"vlmo_jax.{COMMANDS[name].module}.__main__")
    assert '__name__ == "__main__"' in spec.loader.get_source(spec.name)
    assert f"  {name} " in manual() and COMMANDS[name].line in manual()


def run(*arguments, code="from vlmo_jax.__main__ import main; main()"):
    command = [sys.executable, "-c", f"import sys; {code}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_nothing_heavy_is_imported_to_list_them():
    code = """from vlmo_jax.__main__ import main; main()
heavy = {"jax", "numpy", "flax", "PIL", "orbax", "absl"} & set(sys.modules)
assert not heavy, heavy"""
    ended = run(code=code)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == manual() + "\n"


def test_manuals_name_the_command_as_it_was_called():
    ended = run("search", "index", "--help")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("usage: vlmo search index [-h]")
    assert "vlmo search index ~/Pictures my_index" in ended.stdout
    assert "python -m" not in ended.stdout


def test_commands_get_their_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vlmo", "train", "a", "--b=c"])
    seen = []
    monkeypatch.setattr(
        console.runpy, "run_module", lambda name, **how: seen.append((name, sys.argv[1:], how))
    )
    console.main()
    how = {"run_name": "__main__", "alter_sys": True}
    assert seen == [("vlmo_jax.main", ["a", "--b=c"], how)]


def test_refuses_what_it_does_not_know():
    ended = run("serch")
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: 'serch' is no command; did you mean search? `vlmo` lists them all\n"
    )


def test_lines_of_a_usage_stay_aligned():
    long = (
        "usage: python -m vlmo_jax.datasets.build_text [-h]\n"
        "                                              SRC\n\nAs `python -m vlmo_jax.main` does.\n"
        "    python -m vlmo_jax.mainly"
    )
    assert in_short(long) == (
        "usage: vlmo build_text [-h]\n                       SRC\n\nAs `vlmo train` does.\n"
        "    python -m vlmo_jax.mainly"
    )
