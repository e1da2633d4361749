"""The house rules about imports, which docs/architecture.py says: files import from lower floors,
data modules never import jax, and the picture of it all agrees with the code.
"""

import json
import subprocess
import sys

import pytest
from PIL import Image

from docs import architecture
from docs.architecture import EXCEPTIONS, FLOORS, PACKAGE, Import
from docs.draw_architecture import PICTURE, drawn_arrows
from tests.paths import ROOT

IMPORTS = architecture.internal_imports()


def runs_down(found):
    floor, room = architecture.place_of(found.name)
    other_floor, other_room = architecture.place_of(found.other)
    return room == other_room or other_floor < floor


@pytest.mark.parametrize("name", architecture.modules())
def test_imports_run_down(name):
    floor, _ = architecture.place_of(name)
    for found in (found for found in IMPORTS if found.name == name):
        other_floor, _ = architecture.place_of(found.other)
        assert runs_down(found) or architecture.is_exception(found), (
            f"vlmo_jax.{name} (floor {floor}), line {found.line}, imports vlmo_jax.{found.other}"
            f" (floor {other_floor}); move what is needed to a lower floor"
        )


def test_imports_are_found_in_all_their_forms(tmp_path):
    file = tmp_path / "module.py"
    file.write_text(
        "import vlmo_jax.models.vlmo\nfrom vlmo_jax.layers import linear\n"
        "def later():\n    from vlmo_jax.parallel.sharding import constrain, make_mesh\n"
    )
    assert list(architecture.imports_of(file)) == [
        ("vlmo_jax.models.vlmo", 1),
        ("vlmo_jax.layers.linear", 2),
        ("vlmo_jax.parallel.sharding.constrain", 4),
        ("vlmo_jax.parallel.sharding.make_mesh", 4),
    ]
    assert Import("layers.mome_block", "parallel.sharding", 1)[:2] in {i[:2] for i in IMPORTS}


def test_upward_and_sideways_imports_are_seen():
    assert not runs_down(Import("models.vlmo", "tasks.protocols", 1))
    assert not runs_down(Import("layers.linear", "objectives.means", 1))
    assert not runs_down(Import("training.optimizer", "training.loop", 1))
    assert runs_down(Import("training.loop", "training.optimizer", 1))


def test_every_exception_is_in_use_and_has_a_reason():
    upward = {(found.name, found.other) for found in IMPORTS if not runs_down(found)}
    assert upward == {(who, whom) for who, whom, _ in EXCEPTIONS}
    assert all(reason for *_, reason in EXCEPTIONS)


def test_every_room_exists():
    known = architecture.modules()
    for room in (room for row in FLOORS for room in row):
        assert all(module in known for module in room.modules), room


def test_the_picture_agrees_with_the_code():
    shown = json.loads(Image.open(PICTURE).text["Description"])
    assert shown == architecture.picture_data(), (
        "docs/architecture.png shows other rooms or imports than the code has; draw it again with"
        " python -m docs.draw_architecture"
    )


def test_the_picture_leaves_out_what_follows():
    arrows = [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("c", "d"), ("e", "d")]
    assert drawn_arrows(arrows) == [("a", "b"), ("b", "c"), ("c", "d"), ("e", "d")]


def test_configs_import_only_ml_collections_and_common():
    for path in (ROOT / "configs").glob("*.py"):
        for name, _ in architecture.imports_of(path):
            assert name.split(".")[0] in ("ml_collections", "configs"), f"{path.name}: {name}"


def test_data_sets_import_without_jax():
    modules = "vlmo_jax.datasets, vlmo_jax.input.text.tokenizer"
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_data_module_imports_jax_itself():
    # Grain does, where batches are streamed.
    for name, path in architecture.modules().items():
        if name.split(".")[0] in ("datasets", "input"):
            imported = {other.split(".")[0] for other, _ in architecture.imports_of(path)}
            assert not imported & {"jax", "flax", "optax"}, name


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
