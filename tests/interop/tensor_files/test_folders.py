"""Folders of transformers, and checkpoints in shards."""

import json

import numpy as np
import pytest

from tests.interop.torch_files import TorchFile
from vlmo_jax.interop.tensor_files import (
    TensorFileError,
    is_mapped,
    read_tensors,
    write_safetensors,
)

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def write_torch_shard(path, tensors):
    file = TorchFile()
    file.write(path, {name: file.tensor(value) for name, value in tensors.items()})


def write_shards(folder, places=None, shards=None):
    """Two shards of one tensor each, `x` and `y`, with an index."""
    shards = shards or [{"x": np.arange(3.0)}, {"y": np.ones(2, np.float32)}]
    for name, tensors in zip(SHARDS, shards, strict=True):
        write_safetensors(folder / name, tensors)
    places = {"x": SHARDS[0], "y": SHARDS[1]} if places is None else places
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": places}))


def test_folder_of_transformers(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    write_torch_shard(tmp_path / "pytorch_model.bin", {"x": np.zeros(2, np.float32)})
    assert read_tensors(tmp_path)["x"].tolist() == [0, 0]
    write_safetensors(tmp_path / "model.safetensors", {"x": np.ones(2, np.float32)})
    found = read_tensors(tmp_path)
    assert found["x"].tolist() == [1, 1] and is_mapped(tmp_path)
    assert found.taken_off == "read model.safetensors, not pytorch_model.bin"


@pytest.mark.parametrize("given", ["", INDEX])
def test_shards_of_safetensors(tmp_path, given):
    write_shards(tmp_path)
    found = read_tensors(tmp_path / given)
    assert {name: value.tolist() for name, value in found.items()} == {"x": [0, 1, 2], "y": [1, 1]}


def test_shards_of_torch(tmp_path):
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    write_torch_shard(tmp_path / names[0], {"x": np.arange(3.0)})
    write_torch_shard(tmp_path / names[1], {"y": np.ones(2, np.int32)})
    index = {"weight_map": {"x": names[0], "y": names[1]}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = read_tensors(tmp_path)
    assert found["x"].tolist() == [0, 1, 2] and found["y"].dtype == np.int32


@pytest.mark.parametrize(
    "places, message",
    [
        (
            {"x": SHARDS[0], "y": "model-3.safetensors"},
            "names model-3.safetensors, which is missing",
        ),
        ({"x": "../model.safetensors", "y": SHARDS[1]}, "names ../model.*outside of its folder"),
        ({"x": "a/../../m.safetensors", "y": SHARDS[1]}, "outside of its folder"),
        ({"x": "/etc/passwd", "y": SHARDS[1]}, "names /etc/passwd, which is outside of its folder"),
        ({"x": "..\\m.safetensors", "y": SHARDS[1]}, "outside of its folder"),
        ({"x": "C:\\m.safetensors", "y": SHARDS[1]}, "outside of its folder"),
        ({"x": 3, "y": SHARDS[1]}, "names 3 as a file"),
        ({"x": SHARDS[0], "y": SHARDS[0]}, "00001.*: tensor y is not in it"),
        ({"x": SHARDS[0], "y": SHARDS[1], "z": SHARDS[1]}, "00002.*: tensor z is not in it"),
        ({"y": SHARDS[1], "x": SHARDS[1]}, "tensor x is not in it"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_broken_indices(tmp_path, places, message):
    write_shards(tmp_path, places)
    with pytest.raises(TensorFileError, match=message):
        read_tensors(tmp_path)


def test_tensors_twice_or_not_listed(tmp_path):
    write_shards(tmp_path, shards=[{"x": np.ones(1)}, {"y": np.ones(1), "x": np.ones(1)}])
    with pytest.raises(TensorFileError, match=r"00002.*: x stands in model-00001.* too"):
        read_tensors(tmp_path)
    write_shards(tmp_path, shards=[{"x": np.ones(1)}, {"y": np.ones(1), "z": np.ones(1)}])
    with pytest.raises(TensorFileError, match=r"00002.*: holds z, which the index does not name"):
        read_tensors(tmp_path)
    (tmp_path / INDEX).write_text('{"weight_map": {"x": "a.bin", "x": "b.bin"}}')
    with pytest.raises(TensorFileError, match="index.json: damaged.*twice in it: x"):
        read_tensors(tmp_path)


def test_one_shard_alone_and_other_folders(tmp_path):
    write_shards(tmp_path)
    with pytest.raises(
        TensorFileError, match="one of 2 shards; give the folder, or model.safetens"
    ):
        read_tensors(tmp_path / SHARDS[0])
    other = tmp_path / "other"
    other.mkdir()
    (other / ".metadata").write_bytes(b"")
    with pytest.raises(TensorFileError, match="a distributed checkpoint of torch; .*dcp_to_torch"):
        read_tensors(other)
