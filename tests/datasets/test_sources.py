import concurrent.futures
import multiprocessing
import pickle
import shutil
import subprocess
import sys

import pytest

from vlmo_jax.datasets import record_sources, sources, writer


def test_records_come_back_in_order(dataset, some_records):
    train = sources.open_source(str(dataset), "train")
    assert [train[i] for i in range(len(train))] == some_records[:8]
    assert list(sources.open_source(str(dataset), "validation")) == some_records[8:]
    assert list(sources.open_source(str(dataset), "train[2:4]")) == some_records[2:4]
    assert sources.split_sizes(str(dataset)) == {"train": 8, "validation": 2}


def test_joined_sources_follow_each_other(dataset, some_records):
    joined = sources.open_source(f"{dataset}+openclipart", "validation")
    clip_art = sources.open_source("openclipart", "validation")
    assert len(joined) == 2 + len(clip_art)
    assert [joined[i] for i in range(len(joined))] == [*some_records[8:], *clip_art]
    assert list(pickle.loads(pickle.dumps(joined)))[:3] == [*some_records[8:], clip_art[0]]
    for index in (len(joined), -1):
        with pytest.raises(IndexError, match=f"record {index} of .* \\+ "):
            joined[index]
    with pytest.raises(FileNotFoundError, match="'nothing' is neither a folder"):
        sources.open_source("openclipart+nothing", "validation")


@pytest.mark.parametrize("index", [8, -1])
def test_index_outside_is_refused(dataset, index):
    with pytest.raises(IndexError, match=f"record {index} "):
        sources.open_source(str(dataset), "train")[index]


def test_source_can_be_pickled_after_reading(dataset, some_records):
    source = sources.open_source(str(dataset), "train")
    assert source[0] == some_records[0]
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy) == some_records[:8]
    assert source[7] == some_records[7]


def test_threads_and_a_spawned_process_read_the_same(dataset, some_records):
    source = sources.open_source(str(dataset), "train")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.__getitem__, list(range(8)) * 20)) == some_records[:8] * 20
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(source.__getitem__, 5).result(60) == some_records[5]


def test_missing_data_sets_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="emojis.*neither a folder nor.*emoji.*vlmo_jax.datasets.build"
    ):
        sources.open_source("emojis", "train")
    with pytest.raises(FileNotFoundError, match="no dataset_info.json"):
        sources.open_source(str(tmp_path), "train")


@pytest.mark.parametrize("split", ["test", "train[", ""])
def test_unknown_split_lists_those_there(dataset, split):
    with pytest.raises(ValueError, match=r"is not in .*train \(8\), validation \(2\)"):
        sources.open_source(str(dataset), split)


def test_empty_split_is_refused(dataset):
    with pytest.raises(ValueError, match="is empty"):
        sources.open_source(str(dataset), "train[3:3]")


def test_other_features_are_refused(dataset):
    info = dataset / "features.json"
    info.write_text(info.read_text().replace('"image_id"', '"label"'))
    with pytest.raises(ValueError, match="missing features: image_id"):
        sources.open_source(str(dataset), "train")


def _shards(dataset):
    return sorted(dataset.glob("data-train*"))


def test_missing_shard_is_named(dataset):
    shard = _shards(dataset)[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        sources.open_source(str(dataset), "train")
    assert len(sources.open_source(str(dataset), "validation")) == 2


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_shard_is_found_when_opened(dataset, keep):
    shard = _shards(dataset)[0]
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{shard.name} is truncated or damaged"):
        sources.open_source(str(dataset), "train")


def test_shard_of_another_build_is_found_when_opened(dataset, some_records):
    with writer.DatasetWriter(dataset.parent / "other", description="") as out:
        out.write("train", some_records[0])
    shard = _shards(dataset)[0]
    shutil.copy(next((dataset.parent / "other").glob("*array_record*")), shard)
    with pytest.raises(ValueError, match=f"{shard.name}.*1 records"):
        sources.open_source(str(dataset), "train")


def test_damaged_record_alone_is_broken(dataset, some_records):
    shard = _shards(dataset)[0]
    data = bytearray(shard.read_bytes())
    position = data.index(some_records[0].image[-60:-40])
    data[position] ^= 0xFF
    shard.write_bytes(data)
    source = sources.open_source(str(dataset), "train")
    with pytest.raises(record_sources.BrokenRecordError, match="record 0 of split 'train'"):
        source[0]
    assert [source[i] for i in range(1, 8)] == some_records[1:8]


def test_reading_data_imports_neither_jax_nor_tensorflow():
    code = (
        "import sys; from vlmo_jax.datasets import build, check, emoji, open_source, stats; "
        "from vlmo_jax.input import train_tokenizer; open_source('emoji', 'train')[0]; "
        "print([name for name in ('jax', 'tensorflow', 'torch') if name in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_a_folder_named_like_an_embedded_set_is_asked_about(dataset, monkeypatch):
    dataset.rename(dataset.with_name("emoji"))
    monkeypatch.chdir(dataset.parent)
    with pytest.raises(ValueError, match="write ./emoji for the folder, embedded:emoji"):
        sources.open_source("emoji", "train")
    assert len(sources.open_source("./emoji", "train")) == 8
    assert len(sources.open_source("embedded:emoji", "train")) == 7620


def test_a_folder_with_a_plus_is_one(dataset):
    plus = dataset.rename(dataset.with_name("a+b"))
    assert len(sources.open_source(str(plus), "train")) == 8


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("size", [0, 40])
def test_cut_descriptions_are_named(dataset, name, size):
    path = dataset / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"{name} is cut or damaged") as refused:
        sources.open_source(str(dataset), "train")
    assert "\n" not in str(refused.value)
