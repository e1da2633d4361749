"""`~` is the home folder in every path that people give."""

import pathlib
import re

import pytest

from tests.paths import ROOT
from vlmo_jax.checkpoints.saved_params import find_checkpoint
from vlmo_jax.commands.paths import NoHomeError, user_path
from vlmo_jax.commands.recipe_files import find_recipe


def test_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert user_path("~/runs/a b") == pathlib.Path("/home/ann/runs/a b")
    assert user_path("runs/~a") == pathlib.Path("runs/~a")
    with pytest.raises(NoHomeError, match="~nobody-at-all/x: .*; write the path in full"):
        user_path("~nobody-at-all/x")


def test_recipes_and_checkpoints_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text("")
    assert find_recipe("~/mine.py") == tmp_path / "mine.py"
    (tmp_path / "run" / "checkpoints" / "7" / "params").mkdir(parents=True)
    assert find_checkpoint("~/run") == (tmp_path / "run" / "checkpoints", 7)


def test_no_command_takes_paths_in_another_way():
    for file in (ROOT / "vlmo_jax").rglob("*.py"):
        text = file.read_text()
        assert not re.search(r"type=(pathlib\.)?Path\b", text), file
        assert file.name == "paths.py" or ".expanduser(" not in text, file
