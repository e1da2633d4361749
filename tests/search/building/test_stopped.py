"""A command that makes an index and is killed or stopped leaves one that is whole, or says that it
is not; the same command goes on.
"""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
from tests.search.worlds import StubModel, age, contents, draw, update
from vlmo_jax.search import open_index
from vlmo_jax.search.about import NoIndexError, OtherModelError
from vlmo_jax.search.building import update as updating

KILLED = """
import os, pathlib, shutil, signal, sys
from tests.search.worlds import StubModel, update
from vlmo_jax.search.building import update as updating
updating.PART = 2
pictures, index, moment = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 0

def dying(function, left):
    def call(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

while True:
    if (child := os.fork()) == 0:
        left = [moment]
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "link"), (shutil, "rmtree"),
                            (pathlib.Path, "unlink"), (pathlib.Path, "mkdir")):
            setattr(owner, name, dying(getattr(owner, name), left))
        update(pictures, index)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    input()  # until the test has looked
    moment += 1
"""


def test_killed_at_any_moment_it_is_whole_or_unfinished_and_goes_on(pictures, tmp_path):
    index, seen = tmp_path / "index", set()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED, str(pictures), str(index)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as driver:
        for round_ in range(2):
            before = contents(index) if round_ else None
            if round_:
                (pictures / "a/0.png").unlink()
                age(draw(pictures / "b/new.png", 55))
                age(draw(pictures / "b/3.png", 56))
                age(draw(pictures / "c/other.png", 57))
            wanted = _fresh(pictures, tmp_path / f"fresh{round_}")
            finished = False
            while not finished:
                finished = driver.stdout.readline() == "0\n"
                seen.add(_state(index, before, wanted))
                driver.stdin.write("\n")
                driver.stdin.flush()
            assert contents(index) == wanted
            assert not (index / "making").exists()
        driver.kill()
    assert seen == {"missing", "unfinished", "before", "wanted"}


def _fresh(pictures, folder):
    update(pictures, folder)
    return contents(folder)


def _state(index, before, wanted):
    try:
        found = contents(index)
    except NoIndexError as error:
        assert before is None
        return (
            "unfinished" if "is not finished; give its index command" in str(error) else "missing"
        )
    assert found in (before, wanted)
    return "wanted" if found == wanted else "before"


def test_parts_of_a_stopped_start_are_not_encoded_again(pictures, index, monkeypatch):
    monkeypatch.setattr(updating, "PART", 2)
    monkeypatch.setattr(updating, "publish", _stop)
    with pytest.raises(KeyboardInterrupt):
        update(pictures, index)
    monkeypatch.undo()
    with pytest.raises(NoIndexError, match="not finished"):
        open_index(index)
    with pytest.raises(OtherModelError, match="weights"):
        update(pictures, index, StubModel(fingerprint="cd" * 32))
    assert update(pictures, index).encoded == 0
    assert contents(index) == _fresh(pictures, index.with_name("fresh"))


def test_a_new_start_that_was_stopped_goes_on_too(pictures, index, monkeypatch):
    update(pictures, index)
    other = StubModel(fingerprint="cd" * 32)
    monkeypatch.setattr(updating, "publish", _stop)
    with pytest.raises(KeyboardInterrupt):
        update(pictures, index, other, restart=True)
    monkeypatch.undo()
    with pytest.raises(OtherModelError, match="or remove .*index/making"):
        update(pictures, index)
    assert update(pictures, index, other, restart=True).encoded == 0
    assert open_index(index).about.origin.fingerprint == other.fingerprint


def test_a_damaged_part_is_made_again(pictures, index, monkeypatch):
    monkeypatch.setattr(updating, "PART", 2)
    monkeypatch.setattr(updating, "publish", _stop)
    with pytest.raises(KeyboardInterrupt):
        update(pictures, index)
    monkeypatch.undo()
    path = index / "making/000001.npz"
    path.write_bytes(path.read_bytes()[:-300])
    assert update(pictures, index).encoded == 2
    assert contents(index) == _fresh(pictures, index.with_name("fresh"))


def _stop(*args, **kwargs):
    raise KeyboardInterrupt
