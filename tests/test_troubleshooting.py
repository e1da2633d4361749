"""Every message that docs/TROUBLESHOOTING.md explains is one that the code can say."""

import ast
import re

import pytest

from tests.paths import ROOT

PAGE = ROOT / "docs" / "TROUBLESHOOTING.md"
# Where the page has what differs: numbers, names in capitals, and dots for what is left out.
DIFFERS = re.compile(r"\.\.\.|U\+|\b[A-Z]+\b(?::[A-Z]+)?|\b\d[\d,.e+]*\b")
# What others say: Linux, Grain, ml_collections, zipfile.
OF_OTHERS = {"No space left on device", "Too many open files", "exit code -", "Did you mean", "Bad"}
# What the code puts together of more than one string.
COMPOSED = {
    "holds a run with other contents of config.data.source",
    "holds a run with other contents of config.data.answers",
    "splits=() leaves nothing to evaluate",
    "is nan",
    "/dev/shm has",
    'put what it does below if __name__ == "__main__',
    "dataset_info.json is cut or damaged",
    ".npy is cut",
    "holds images with captions, not images with questions",
    "left out n_averaged",
    "its values are float64",
    "has no part that answers questions",
    "has no part that chooses from classes of its own",
    "encodes for search",
    "was trained without texts",
    "questions are left out",
    "(ViLT",
    "ViLBERT): missing",
    "has text_decoder.*",
    "ta_head.*",
    "cls_head.*",
    "its features hold NaN",
}


def text_of(node):
    """A string of the code, with a mark for what is filled in; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(one.value if isinstance(one, ast.Constant) else "\0" for one in node.values)
    return None


@pytest.fixture(scope="module")
def said():
    """All strings of the code but docstrings."""
    found = []
    for path in (ROOT / "vlmo_jax").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [text_of(node) or "" for node in nodes if id(node) not in documents]
    return "\n".join(text.replace("\n", " ") for text in found)


def pieces():
    """What stays the same in the messages of the page."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            message = line.split(" | ")[0]
            for one in re.findall(r"`([^`]+)`", message):
                found = (piece.strip(" =:,'\"") for piece in DIFFERS.split(one))
                yield from (piece for piece in found if len(piece) > 2)


def test_messages_are_those_of_the_code(said):
    wrong = {piece for piece in pieces() if piece not in said}
    unknown = wrong - OF_OTHERS - COMPOSED
    assert not unknown, "no string of the code has this; write it as it is said, or list it above"
    assert wrong == OF_OTHERS | COMPOSED, "these need not be listed any more"
