import os
import signal

import pytest

from vlmo_jax.datasets import sources, writer


def _write(out, records, **options):
    with writer.DatasetWriter(out, description="for tests", **options) as dataset:
        for record in records:
            dataset.write("train", record)


def test_same_records_give_the_same_bytes(tmp_path, some_records):
    for parent in ("a", "b"):
        _write(tmp_path / parent / "data", some_records, license="free", shard_bytes=1500)
    files = sorted(path.name for path in (tmp_path / "a/data").iterdir())
    assert len(files) > 4 and files == sorted(path.name for path in (tmp_path / "b/data").iterdir())
    for name in files:
        assert (tmp_path / "a/data" / name).read_bytes() == (
            tmp_path / "b/data" / name
        ).read_bytes(), name


def test_shards_close_at_their_size(tmp_path, some_records):
    _write(tmp_path / "one", some_records)
    assert [path.name for path in (tmp_path / "one").glob("*record-*")] == [
        "one-train.array_record-00000-of-00001"
    ]
    _write(tmp_path / "each", some_records, shard_bytes=1)
    assert len(list((tmp_path / "each").glob("each-train.array_record-*-of-00010"))) == 10
    assert list(sources.open_source(str(tmp_path / "each"), "train")) == some_records


def test_an_error_leaves_nothing(tmp_path, some_records):
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        writer.DatasetWriter(tmp_path / "data", description="") as dataset,
    ):
        dataset.write("train", some_records[0])
        raise RuntimeError("in the middle")
    assert list(tmp_path.iterdir()) == []


def test_no_record_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no record"):
        _write(tmp_path / "data", [])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_asked(tmp_path, some_records):
    _write(tmp_path / "data", some_records)
    with pytest.raises(FileExistsError, match="--overwrite"):
        _write(tmp_path / "data", some_records[:1])
    assert len(sources.open_source(str(tmp_path / "data"), "train")) == 10
    _write(tmp_path / "data", some_records[:1], overwrite=True)
    assert len(sources.open_source(str(tmp_path / "data"), "train")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_failed_replacement_keeps_the_old(tmp_path, some_records):
    _write(tmp_path / "data", some_records)
    with pytest.raises(ValueError, match="no record"):
        _write(tmp_path / "data", [], overwrite=True)
    assert len(sources.open_source(str(tmp_path / "data"), "train")) == 10


def test_other_folders_are_never_replaced(tmp_path, some_records):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"dear")
    with pytest.raises(FileExistsError, match="no data set"):
        _write(tmp_path / "photos", some_records, overwrite=True)
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"dear"


@pytest.mark.parametrize("name", ["My photos (2)", "2024-01", "фото"])
def test_any_folder_name_will_do(tmp_path, some_records, name):
    _write(tmp_path / name, some_records)
    assert len(sources.open_source(str(tmp_path / name), "train")) == 10


def test_a_second_build_to_one_place_is_refused(tmp_path, some_records):
    with writer.DatasetWriter(tmp_path / "data", description="first") as first:
        second = writer.DatasetWriter(tmp_path / "data", description="second")
        with pytest.raises(FileExistsError, match="another build writes to .*process"):
            second.__enter__()
        first.write("train", some_records[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_what_a_killed_build_left_is_cleared(tmp_path, some_records):
    (tmp_path / ".data.incomplete-abc").mkdir()
    (tmp_path / ".data.incomplete-abc" / "train-0.incomplete").touch()
    (tmp_path / ".database.incomplete-abc").mkdir()
    with writer.DatasetWriter(tmp_path / "data", description="for tests") as out:
        out.write("train", some_records[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".database.incomplete-abc", "data"]


def test_sigterm_leaves_nothing(tmp_path, some_records):
    dataset = writer.DatasetWriter(tmp_path / "data", description="for tests")
    with pytest.raises(SystemExit) as ended, dataset as out:
        out.write("train", some_records[0])
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir()) and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
