import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.datasets.building.small_builds import (
    FORMAT,
    build_small,
    contents,
    read_rows,
    write_rows,
)
from tests.paths import ROOT
from vlmo_jax.datasets import build, sources
from vlmo_jax.datasets.building import command, places


def _killed(download, out, picture):
    """Builds in a process that is killed when it loads a picture."""
    (download / "kill").write_text(picture)
    command = [sys.executable, "-m", "vlmo_jax.datasets.build", str(download), str(out)]
    command += [f"--format={FORMAT}", "--unit_records=4", "--workers=1"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    (download / "kill").unlink()


def test_records_counts_and_manifest(download, tmp_path, capsys):
    build_small(download, tmp_path / "out")
    said = capsys.readouterr().out
    train = sources.open_source(str(tmp_path / "out"), "train")
    rows = [row for row in read_rows(download) if row["split"] == "train"]
    assert [record.image_id for record in train] == [row["image"] for row in rows]
    assert train[3].texts == ("picture 3", "again")
    assert [path.name for path in tmp_path.iterdir() if path.name != "download"] == ["out"]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["format"] == FORMAT and manifest["license"] == "free"
    assert [file["path"] for file in manifest["sources"]] == ["rows.jsonl"]
    facts = manifest["splits"]["train"]
    assert facts["records"] == 20 and sum(s["records"] for s in facts["shards"]) == 20
    assert len(facts["shards"]) == 5 and facts["found"] == {"images": 20, "captions": 21}
    assert "Differs from what was published:\n  train has 21 captions, published are 20\n" in said
    assert "Wrote 25 records (train 20, test 5)" in said


def test_counts_are_not_called_the_published_ones_where_records_are_missing():
    facts = {"records": 4, "found": {"images": 5}, "published": {"images": 5}}
    assert command.format_counts({"test": facts}, 0).endswith("All counts are the published ones.")
    assert command.format_counts({"test": facts}, 1).endswith("but 1 of it could not be used.")


def test_two_processes_write_the_bytes_of_one(download, tmp_path):
    (download / "7.png").write_bytes(b"no picture")
    build_small(download, tmp_path / "a/data", "--max_broken=0.1")
    build_small(download, tmp_path / "b/data", "--max_broken=0.1", "--workers=2")
    assert contents(tmp_path / "a/data") == contents(tmp_path / "b/data")
    left_out = (tmp_path / "a/data/left_out.tsv").read_text()
    assert left_out == "7.png\t7.png: BrokenImageError\n"


def test_a_download_that_cannot_be_read_leaves_nothing(download, tmp_path):
    with (download / "rows.jsonl").open("a") as file:
        file.write("{")
    with pytest.raises(ValueError, match="Expecting property name"):
        build_small(download, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [download.name]


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(download, tmp_path, capsys):
    build_small(download, tmp_path / "a/data")
    _killed(download, tmp_path / "b/data", "13.png")
    assert not (tmp_path / "b/data").exists()
    capsys.readouterr()
    build_small(download, tmp_path / "b/data")
    assert "Going on: 2 of 7 units are finished." in capsys.readouterr().out
    assert contents(tmp_path / "a/data") == contents(tmp_path / "b/data")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["data"]


@pytest.mark.parametrize("flag", ["--shard_mb=7", "--unit_records=5", "--option=times=2"])
def test_other_options_are_refused_until_restart(download, tmp_path, flag):
    _stopped(download, tmp_path / "out")
    with pytest.raises(SystemExit, match="unfinished build whose .*--restart"):
        build_small(download, tmp_path / "out", flag)
    assert not (tmp_path / "out").exists()
    build_small(download, tmp_path / "out", flag, "--restart", "--max_broken=1")
    assert (tmp_path / "out").exists()


def _stopped(download, out):
    """Leaves a build with some finished units."""
    (download / "20.png").write_bytes(b"")
    with pytest.raises(SystemExit, match="1 of 25 records cannot be used so far"):
        build_small(download, out)


def test_another_version_of_the_code_is_refused(download, tmp_path, monkeypatch):
    _stopped(download, tmp_path / "out")
    monkeypatch.setattr("vlmo_jax.datasets.building.plan.code_digest", lambda reader: "newer")
    with pytest.raises(SystemExit, match="version of the code is '.*', not 'newer'.*--restart"):
        build_small(download, tmp_path / "out")


def test_a_changed_source_is_refused(download, tmp_path):
    _stopped(download, tmp_path / "out")
    rows = read_rows(download)
    rows[0]["texts"] = ["another"]
    write_rows(download, rows)
    with pytest.raises(SystemExit, match="rows.jsonl has changed .*--restart"):
        build_small(download, tmp_path / "out")


def test_a_touched_source_is_the_same(download, tmp_path):
    _stopped(download, tmp_path / "out")
    (download / "rows.jsonl").touch()
    build_small(download, tmp_path / "out", "--max_broken=0.04")


def test_a_higher_limit_goes_on(download, tmp_path, capsys):
    _stopped(download, tmp_path / "out")
    assert "finished units are kept in" in capsys.readouterr().err
    build_small(download, tmp_path / "out", "--max_broken=0.04")
    said = capsys.readouterr().out
    assert "Going on: 5 of 7 units" in said and "Left out 1 of what was found" in said
    assert (tmp_path / "out/left_out.tsv").read_text().startswith("20.png\t")


def test_what_the_reader_left_out_counts_and_is_listed(download, tmp_path):
    rows = read_rows(download)
    rows[0]["texts"] = []
    write_rows(download, rows)
    with pytest.raises(SystemExit, match="1 of 25 .*0.png: no caption"):
        build_small(download, tmp_path / "out", "--max_broken=0.03")
    build_small(download, tmp_path / "out", "--max_broken=0.05")
    reasons = json.loads((tmp_path / "out/manifest.json").read_text())["left_out"]
    assert reasons == {"total": 1, "reasons": {"no caption": 1}, "for other reasons": 0}


def test_a_name_that_is_no_text_is_left_out(download, tmp_path):
    (download / "7.png").rename(download / "\udcff.png")
    rows = [
        row | {"image": row["image"].replace("7.png", "\udcff.png")} for row in read_rows(download)
    ]
    write_rows(download, rows)
    build_small(download, tmp_path / "out", "--max_broken=0.1")
    left_out = (tmp_path / "out/left_out.tsv").read_text()
    assert "\\udcff.png\tits name or a text of it is no UTF-8; rename it\n" in left_out
    assert json.loads((tmp_path / "out/manifest.json").read_text())["left_out"]["total"] == 2


def test_an_id_that_comes_twice_is_refused(download, tmp_path):
    rows = read_rows(download)
    write_rows(download, [*rows, rows[0] | {"split": "test"}])
    with pytest.raises(SystemExit, match="id '0.png', in split train and in split test"):
        build_small(download, tmp_path / "out")


def test_a_split_without_records_is_refused(download, tmp_path):
    for i in range(4, 25, 5):
        (download / f"{i}.png").unlink()
    with pytest.raises(SystemExit, match="no record is left for split test"):
        build_small(download, tmp_path / "out", "--max_broken=1")
    assert not (tmp_path / "out").exists()


def test_a_killed_worker_is_told_and_the_rest_kept(download, tmp_path):
    (download / "kill").write_text("13.png")
    with pytest.raises(SystemExit, match="a worker process was killed"):
        build_small(download, tmp_path / "out", "--workers=2")
    (download / "kill").unlink()
    build_small(download, tmp_path / "out")


@pytest.mark.parametrize("when", ["put_in_place", "dataset_name"])
def test_a_build_stopped_at_its_end_goes_on(download, tmp_path, monkeypatch, when):
    build_small(download, tmp_path / "a/data")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(places, when, stop)
    with pytest.raises(SystemExit) as ended:
        build_small(download, tmp_path / "b/data")
    assert ended.value.code == 130 and not (tmp_path / "b/data").exists()
    monkeypatch.undo()
    build_small(download, tmp_path / "b/data")
    assert contents(tmp_path / "a/data") == contents(tmp_path / "b/data")


def test_a_build_killed_while_it_cleared_up_begins_anew(download, tmp_path):
    build_small(download, tmp_path / "out")
    work = tmp_path / ".out.unfinished"
    work.mkdir()
    (work / "complete").touch()
    (work / "plan.json").write_text("{}")
    build_small(download, tmp_path / "out", "--overwrite")
    assert not work.exists()


def test_numbers_of_examples_lie_beside_the_shards(download, tmp_path):
    form = FORMAT.replace("SmallReader", "QuestionsReader")
    build_small(download, tmp_path / "out", form=form)
    numbers = np.load(tmp_path / "out/examples-train.npy")
    assert numbers.dtype == np.int32 and numbers.tolist() == [1, 1, 1, 2] + [1] * 16


def test_flags_of_the_other_road_are_refused(download, tmp_path, capsys):
    with pytest.raises(SystemExit, match="--captions goes with a folder of images"):
        build_small(download, tmp_path / "out", "--captions=x")
    with pytest.raises(SystemExit, match="--workers goes with --format"):
        build.main([str(download), str(tmp_path / "out"), "--workers=2"])
    with pytest.raises(SystemExit, match="--option shape: .* has times"):
        build_small(download, tmp_path / "out", "--option=shape=round")
    with pytest.raises(SystemExit) as ended:
        build.main([f"--format={FORMAT}", "--help"])
    assert ended.value.code == 0 and "The folder holds rows.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--shard_mb=0", "--shard_mb=0 must be 1 or more"),
        ("--workers=0", "--workers=0 must be 1 or more"),
        ("--max_broken=nan", "--max_broken=nan must be a share, from 0 to 1"),
        ("--max_broken=5", "--max_broken=5.0 must be a share"),
        ("--format=", "--format= is not known; there are: folder"),
        ("--option=time=2", "--option time: there is none of that name; .* has times"),
    ],
)
def test_numbers_and_names_out_of_range_are_refused(download, tmp_path, flag, message):
    with pytest.raises(SystemExit, match=message):
        build_small(download, tmp_path / "out", flag)
    assert sorted(path.name for path in tmp_path.iterdir()) == [download.name]


def test_a_full_disk_is_one_line_and_the_rest_kept(download, tmp_path, encoded_image):
    (download / "23.png").write_bytes(encoded_image(23, size=(128, 128)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(SystemExit, match="error: .*part: File too large; [^\n]*$"):
            build_small(download, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / ".out.unfinished/shards").glob("*.part"))
    build_small(download, tmp_path / "out")
    assert len(sources.open_source(str(tmp_path / "out"), "train")) == 20


def test_workers_end_with_a_killed_parent(download, tmp_path):
    (download / "slow").touch()
    command = [sys.executable, "-m", "vlmo_jax.datasets.build", str(download)]
    command += [str(tmp_path / "out"), f"--format={FORMAT}", "--unit_records=1", "--workers=2"]
    parent = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    finished = tmp_path / ".out.unfinished/finished"
    pids = download / "pids"
    while not (finished.is_dir() and any(finished.glob("*.json"))):
        assert parent.poll() is None
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(_runs(int(path.name)) for path in pids.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert any(finished.glob("*.json")) and not (tmp_path / "out").exists()


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
