"""The rooms of vlmo_jax on their floors, and who imports whom.

A file imports from its own room and from lower floors only. FLOORS says which room stands where and
EXCEPTIONS what may look elsewhere; tests/test_floors.py holds the code to both, and
draw_architecture.py draws them.
"""

import ast
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "vlmo_jax"


class Room(NamedTuple):
    """Files that belong together.

    Attributes:
        name: in the picture, and for messages.
        purpose: a few words, most of them "from -> to".
        modules: what stands in it, without vlmo_jax in front, folders with all they hold. A longer
            name that another room has is not in it.
    """

    name: str
    purpose: str
    modules: tuple[str, ...]


def _room(name: str, purpose: str) -> Room:
    return Room(name, purpose, (name,))


# From the ground up.
FLOORS = (
    (_room("commands", "flags, recipes, refusals, endings"),),
    (
        _room("datasets", "files → records"),
        _room("parallel", "the mesh of devices"),
        _room("reports", "numbers → pictures"),
    ),
    (
        _room("input", "records → batches"),
        _room("layers", "parts of models"),
        _room("objectives", "features → losses"),
    ),
    (
        _room("models", "arrays → features"),
        _room("checkpoints", "states, kept and found"),
    ),
    (_room("tasks", "models + objectives → gradients"),),
    (
        _room("evals", "a model → scores"),
        Room(
            "training (one update)",
            "gradients → next state",
            (
                "training.averaging",
                "training.layer_decay",
                "training.optimizer",
                "training.partition",
                "training.train_step",
            ),
        ),
    ),
    (
        _room("recipes", "a config → data, task, evaluations"),
        _room("interop", "other people's weights ↔ ours"),
    ),
    (
        _room("training", "the loop of a run"),
        _room("inference", "a model, asked"),
    ),
    (_room("search", "pictures, found"),),
    (
        _room("main", "the command of a run"),
        Room(
            "encode, match, answer, caption",
            "their commands, and more",
            ("encode", "match", "answer", "caption", "grid_features", "halve", "zero_shot"),
        ),
        _room("bench", "how fast it is"),
        _room("doctor", "is all well"),
    ),
    (_room("experiments", "several runs, compared"),),
    (
        Room(
            "chain, compare, fusion, systems",
            "their commands",
            ("chain", "compare", "fusion", "systems"),
        ),
        Room("vlmo", "all commands, by name", ("__main__",)),
    ),
)

# (who, whom, why): imports that do not run down.
EXCEPTIONS = (
    (
        "objectives.masked_language",
        "input.schema",
        "one name for what stands in the unused places of a batch",
    ),
    (
        "objectives.captions",
        "input.schema",
        "one name for what stands in the unused places of a batch",
    ),
    (
        "datasets.stats",
        "input.text.tokenizer",
        "a command that nothing imports: it tells what a tokenizer makes of the texts",
    ),
    (
        "datasets.stats",
        "reports.pages.records",
        "a command that nothing imports: it draws some records",
    ),
)


class Import(NamedTuple):
    """Module `name` imports module `other` in line `line`; both without vlmo_jax in front."""

    name: str
    other: str
    line: int


def modules() -> dict[str, pathlib.Path]:
    """Name -> file of all modules of the package but its __init__."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts).removesuffix("__init__").removesuffix(".")] = path
    del names[""]
    return names


def imports_of(path: pathlib.Path) -> Iterator[tuple[str, int]]:
    """All that a file imports, names out of modules included, and in which lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: relative imports are not read here"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def internal_imports() -> list[Import]:
    """Who imports whom within the package; names out of modules count as their module."""
    known, found = modules(), []
    for name, path in known.items():
        for imported, line in imports_of(path):
            other = imported.removeprefix("vlmo_jax.")
            if other not in known:
                other = other.rpartition(".")[0]
            if imported.startswith("vlmo_jax.") and other in known:
                found.append(Import(name, other, line))
    return found


def place_of(module: str) -> tuple[int, Room]:
    """Floor and room of a module.

    Raises:
        LookupError: it has none.
    """
    rooms = {
        prefix: (floor, room)
        for floor, row in enumerate(FLOORS)
        for room in row
        for prefix in room.modules
    }
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:length])) in rooms:
            return rooms[prefix]
    raise LookupError(f"vlmo_jax.{module} has no floor; give it one in FLOORS of {__file__}")


def is_exception(found: Import) -> bool:
    """Whether EXCEPTIONS allows an import."""
    return (found.name, found.other) in {(who, whom) for who, whom, _ in EXCEPTIONS}


def picture_data() -> dict[str, Any]:
    """What the picture shows: the names of the rooms, a list a floor from the ground up, and all
    arrows from room to room.
    """
    arrows = set()
    for found in internal_imports():
        room, other = place_of(found.name)[1].name, place_of(found.other)[1].name
        if room != other and not is_exception(found):
            arrows.add((room, other))
    return {
        "floors": [[room.name for room in row] for row in FLOORS],
        "arrows": [list(arrow) for arrow in sorted(arrows)],
    }
