"""A server goes over to the next index of its folder, and never to one that it cannot use."""

import asyncio
import dataclasses
import gc
import os
import time

import pytest
from PIL import Image

from tests.search.server.conftest import save_pictures, serving
from vlmo_jax.search import open_index
from vlmo_jax.search.about import OtherModelError
from vlmo_jax.search.building.update import update_index
from vlmo_jax.search.queries import Searcher
from vlmo_jax.search.server.served import Newest


@pytest.fixture
def renewable(tmp_path, searcher):
    """Functions that open an index of its own, and bring it up to date."""
    pictures = save_pictures(tmp_path / "pictures")
    update = lambda: update_index(pictures, tmp_path / "index", searcher.model, tmp_path / "model")
    update()
    return lambda: Searcher(open_index(tmp_path / "index"), searcher.model), update


def add_yellow(tmp_path):
    Image.new("RGB", (40, 40), (250, 240, 40)).save(tmp_path / "pictures" / "yellow.jpg")
    (tmp_path / "pictures" / "yellow.txt").write_text("a yellow picture")


def handles():
    return len(os.listdir("/dev/fd"))


def test_what_is_indexed_meanwhile_is_found(tmp_path, renewable, capsys):
    open_it, update = renewable
    with serving(open_it(), look_seconds=0.05) as client:
        assert client.ask("/about").json["pictures"] == 8
        red = client.ask("/search?text=red").json["results"][0]["id"]
        add_yellow(tmp_path)
        (tmp_path / "pictures" / "green.jpg").unlink()
        (tmp_path / "pictures" / "sub" / "green.jpg").unlink()
        update()
        statuses, until = set(), time.monotonic() + 30
        while client.ask("/health").json["pictures"] == 8 and time.monotonic() < until:
            statuses.add(client.ask("/search?text=red").status)
            time.sleep(0.02)
        assert statuses <= {200} and client.ask("/about").json["pictures"] == 7
        assert "vlmo_pictures 7.0" in client.ask("/metrics").text
        results = client.ask("/search?text=a").json["results"]
        names = {one["path"]: one for one in results}
        assert "yellow.jpg" in names and not any("green" in name for name in names)
        assert client.ask(names["yellow.jpg"]["thumbnail"]).status == 200
        assert client.ask(names["yellow.jpg"]["original"]).status == 200
        assert client.ask(f"/search?like={red}").status == 200
    assert capsys.readouterr().out.count("The index was renewed: 7 pictures") == 1


def test_the_old_index_is_closed_when_nobody_has_it_any_more(tmp_path, renewable):
    open_it, update = renewable
    newest = Newest(open_it())
    assert not newest.renew()
    gc.collect()
    before = handles()
    add_yellow(tmp_path)
    update()
    under_way = newest.now
    assert newest.renew() and len(newest.now.searcher.index) == 9
    picture = under_way.searcher.index.pictures[0]
    assert under_way.catalogue.thumbnail(picture.id)[:2] == b"\xff\xd8"
    both = handles()
    del under_way
    gc.collect()
    assert handles() <= both - 2  # its pictures and its thumbnails
    assert handles() <= before + 1  # the new one has a second file of thumbnails


def test_an_index_of_another_model_is_told_once_and_not_served(renewable, caplog):
    open_it, _ = renewable
    old = open_it()
    newest, folder = Newest(old), old.index.folder
    origin = dataclasses.replace(old.index.about.origin, fingerprint="0" * 64)
    dataclasses.replace(old.index.about, origin=origin).write(folder)
    with pytest.raises(OtherModelError, match="was made with .*weights 000000000000"):
        newest.renew()

    async def watch():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(newest.watch(0.02), 0.5)

    asyncio.run(watch())
    [message] = caplog.messages
    assert message.startswith("error: the index was renewed, and is served as it was before: ")
    assert newest.now.searcher is old
    old.index.about.write(folder)
    assert not newest.renew()
