import json

import numpy as np
import pytest

from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.datasets import open_source
from vlmo_jax.inference.loading import load
from vlmo_jax.search.commands import models
from vlmo_jax.search.commands.demo import make_index, parse
from vlmo_jax.search.demo import drawings
from vlmo_jax.search.demo.bundled import BUNDLED, model_folder
from vlmo_jax.search.index import open_index
from vlmo_jax.search.queries import Searcher
from vlmo_jax.search.questions import Query, Term


@pytest.fixture
def few(monkeypatch):
    """Some of the drawings."""
    all_of_them = drawings.open_source
    monkeypatch.setattr(
        drawings, "open_source", lambda *which: [all_of_them(*which)[n] for n in range(0, 1892, 60)]
    )


def test_drawings_have_their_names(tmp_path):
    assert drawings.write_drawings(tmp_path) == 1892
    lines = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert len({line["image"] for line in lines}) == 1892
    texts = {line["text"]: line["image"] for line in lines}
    assert texts["red heart"] == "smileys-emotion/red_heart.webp"
    assert not any("others/" in path for path in texts.values())
    record = next(one for one in open_source("emoji", "unseen_artist") if "red heart" in one.texts)
    file = tmp_path / "pictures" / texts["red heart"]
    assert file.read_bytes() == record.image
    changed = file.stat().st_mtime_ns
    drawings.write_drawings(tmp_path)
    assert file.stat().st_mtime_ns == changed


def test_shipped_model_is_small_and_of_the_recipe():
    size = sum(file.stat().st_size for file in BUNDLED.rglob("*") if file.is_file())
    assert size < 6_000_000
    saved = SavedParams(BUNDLED)
    assert {leaf.dtype for leaf in saved.shapes.values()} == {np.dtype(np.float16)}
    added = {"attention": "auto"}  # since it was made
    kept = saved.meta["config"]["model"]
    assert {**added, **kept} == read_config("stage3:tiny_long", {}).model.to_dict()


def test_demo_is_searched(few, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "keep_programs", lambda: None)  # not in this person's home
    make_index(tmp_path)
    with open_index(tmp_path / "index") as index:
        assert len(index) == 32
        searcher = Searcher(index, load(BUNDLED))
        right = 0
        for picture in index.pictures:
            hits = searcher.search(Query([Term(text=picture.caption)], top_k=3))
            right += picture.caption in {hit.picture.caption for hit in hits}
    assert right > 20


def test_refuses_ports(capsys):
    with pytest.raises(SystemExit):
        parse(["--port=70000"])
    assert "--port=70000 must be 0 to 65535" in capsys.readouterr().err


def test_it_can_be_asked_for_by_name():
    assert model_folder("demo") == str(BUNDLED)
    assert model_folder("./demo") == "./demo"
