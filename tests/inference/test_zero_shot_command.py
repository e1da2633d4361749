"""python -m vlmo_jax.zero_shot: a folder of folders, names, and broken pictures by name."""

import json

import numpy as np
import pytest

from tests.inference.models import pictures, save_picture
from vlmo_jax.inference.commands import zero_shot
from vlmo_jax.input.text.prompts import LabelsError


@pytest.fixture
def animals(tmp_path):
    """Two folders of pictures, one that is broken, and one in no folder."""
    names = ["cats/1.png", "cats/2.png", "big_dogs/3.png", "big_dogs/4.png", "5.png"]
    for name, array in zip(names, pictures(5)):
        (tmp_path / "animals" / name).parent.mkdir(parents=True, exist_ok=True)
        save_picture(tmp_path / "animals" / name, array)
    (tmp_path / "animals" / "cats" / "broken.png").write_bytes(b"<html>gone</html>")
    return tmp_path / "animals"


@pytest.fixture(autouse=True)
def loaded(model, monkeypatch):
    """Models are compiled once for all tests here."""
    monkeypatch.setattr("vlmo_jax.inference.loading.load", lambda path, **options: model)


def test_a_folder_of_folders(animals, model, capsys):
    zero_shot.main([str(animals), "--model=x", "--templates=plain", "--json"])
    told = json.loads(capsys.readouterr().out)
    paths = [animals / name for name in ("big_dogs/3.png", "big_dogs/4.png")]
    paths += [animals / name for name in ("cats/1.png", "cats/2.png")]
    best = model.classify(paths, ["big dogs", "cats"]).argmax(axis=1)
    assert told["accuracy"] == np.mean(best == [0, 0, 1, 1])
    assert (told["images"], told["classes"], told["templates"]) == (4, 2, 1)
    assert told["baseline_accuracy"] == 0.5 and len(told["per_class"]) == 2
    assert set(told["broken"]) == {"cats/broken", "5"}
    assert "no folder" in told["broken"]["5"] and "cannot" in told["broken"]["cats/broken"]


def test_tables_and_names(animals, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("cats\tcat\tkitten\nbig_dogs\tdog\nbirds\tbird\n")
    zero_shot.main([str(animals), "--model=x", f"--names={names}"])
    out, err = capsys.readouterr()
    assert "4 pictures of 3 classes, 12 templates" in out and "baseline accuracy" in out
    assert "left out: cats/broken: " in err
    names.write_text("cats\tcat\n")
    with pytest.raises(LabelsError, match="'big_dogs'"):
        zero_shot.main([str(animals), "--model=x", f"--names={names}"])


def test_data_sets_by_what_their_records_say(capsys):
    split = "--split=unseen_artist[:6]"
    zero_shot.main(["emoji", "--model=x", split, "--classes=group", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 6 and not told["broken"]


def test_folders_without_classes_are_refused(tmp_path):
    save_picture(tmp_path / "a.png", pictures(1)[0])
    with pytest.raises(zero_shot.NothingClassifiedError, match="no picture lies in a folder"):
        zero_shot.main([str(tmp_path), "--model=x"])
