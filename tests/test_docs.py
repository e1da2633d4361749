"""Documents agree with the code: links lead somewhere, commands and fields exist, and all rooms are
spoken of.
"""

import importlib.util
import re
import shlex

import pytest

from docs import architecture
from tests.paths import ROOT
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.table import COMMANDS

DOCUMENTS = {
    path.name if path.parent == ROOT else f"docs/{path.name}": path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
}


def headings(path):
    """What a link may name behind # in a document."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def commands(path):
    """The commands in the shell blocks of a document, as lists of words."""
    for block in re.findall(r"^```bash\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|;", line):
                yield shlex.split(command, comments=True)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    path = DOCUMENTS[name]
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        file, _, heading = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{name}: {target}"
        assert not heading or heading in headings(linked), f"{name}: {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist_and_take_what_they_are_given(name):
    for words in commands(DOCUMENTS[name]):
        if "-m" not in words:
            continue
        module = words[words.index("-m") + 1]
        if module.startswith(("vlmo_jax", "docs")):
            assert importlib.util.find_spec(module), f"{name}: {module}"
        recipes = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
        given = [word.removeprefix("--config.") for word in words if word.startswith("--config.")]
        for recipe in (recipe for recipe in recipes if not recipe.startswith("my_")):
            read_config(recipe, dict(field.split("=", 1) for field in given))


def test_commands_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\npython -m a --b=c && python -m d \\\n    --e=f  # why\n```\n")
    assert list(commands(page)) == [["python", "-m", "a", "--b=c"], ["python", "-m", "d", "--e=f"]]
    found = [words for document in DOCUMENTS.values() for words in commands(document)]
    assert sum("-m" in words for words in found) > 100


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_by_their_short_names_exist(name):
    text = DOCUMENTS[name].read_text()
    shown = re.findall(r"(?:^|`|&& )vlmo ([a-z]\w*)", text, re.MULTILINE)
    assert set(shown) <= set(COMMANDS)


def test_the_page_that_people_meet_first_shows_the_commands():
    text = DOCUMENTS["README.md"].read_text()
    assert len(set(re.findall(r"`vlmo ([a-z]\w*)", text))) >= 8


def test_paths_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:vlmo_jax|tests|configs|docs|\.ci)/[^`\s]*)`", text)
    assert len(paths) > 20
    for path in paths:
        made = re.sub(r"[^/]*NAME\.py$", "", path)
        assert (ROOT / made).exists(), path


@pytest.mark.parametrize("name", ["README.md", "docs/ARCHITECTURE.md"])
def test_all_rooms_are_told(name):
    text = DOCUMENTS[name].read_text()
    rooms = {module.split(".")[0] for module in architecture.modules()}
    folders = {room for room in rooms if (architecture.PACKAGE / room).is_dir()}
    assert not {room for room in folders if not re.search(rf"[`/ ]{room}\b", text)}
