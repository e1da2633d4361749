"""Files of tensors: what is read, which wrappers come off, what is refused."""

import argparse
import json
import pathlib
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from vlmo_jax.interop.tensor_files import (
    TensorFileError,
    is_mapped,
    read_tensors,
    write_safetensors,
    write_torch,
)


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {
        "matrix": rng.normal(size=(3, 4)).astype(np.float32).T,  # not contiguous
        "scalar": np.asarray(2.5, np.float32),
        "empty": np.zeros((0, 2), np.float32),
        "half": rng.normal(size=5).astype(np.float16),
        "brain": rng.normal(size=5).astype(ml_dtypes.bfloat16),
        "index": np.arange(6).reshape(1, 6),
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert found[name].tobytes() == value.tobytes(), name


def test_safetensors_come_back_exactly(tmp_path, tensors):
    write_safetensors(tmp_path / "a.safetensors", tensors)
    same(read_tensors(tmp_path / "a.safetensors"), tensors)
    assert is_mapped(tmp_path / "a.safetensors")


def test_safetensors_of_the_package_are_the_same_format(tmp_path, tensors):
    package = pytest.importorskip("safetensors.numpy")
    contiguous = {
        name: np.asarray(value, order="C") for name, value in tensors.items() if name != "brain"
    }
    package.save_file(contiguous, tmp_path / "theirs.safetensors")
    same(read_tensors(tmp_path / "theirs.safetensors"), contiguous)
    write_safetensors(tmp_path / "ours.safetensors", contiguous)
    same(package.load_file(tmp_path / "ours.safetensors"), contiguous)


def test_npz_come_back_exactly(tmp_path, tensors):
    del tensors["brain"]  # numpy's format does not know the type
    np.savez(tmp_path / "a.npz", **tensors)
    same(read_tensors(tmp_path / "a.npz"), tensors)
    assert not is_mapped(tmp_path / "a.npz")


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_forward_module."])
def test_prefixes_of_all_names_come_off(tmp_path, prefix):
    write_safetensors(
        tmp_path / "a.safetensors", {prefix + name: np.ones(2) for name in ("x.weight", "y")}
    )
    assert set(read_tensors(tmp_path / "a.safetensors")) == {"x.weight", "y"}
    write_safetensors(tmp_path / "b.safetensors", {"module.x": np.ones(2), "y": np.ones(2)})
    assert set(read_tensors(tmp_path / "b.safetensors")) == {"module.x", "y"}


@pytest.mark.parametrize("keep", [0, 4, 30, 150, -1, -100])
def test_cut_safetensors_are_refused(tmp_path, tensors, keep):
    write_safetensors(tmp_path / "whole.safetensors", tensors)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:keep])
    with pytest.raises(TensorFileError, match="cut.safetensors: damaged or cut"):
        read_tensors(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        {"dtype": "F32", "shape": [2]},
        [],
    ],
)
def test_wrong_headers_are_refused(tmp_path, entry):
    header = json.dumps({"x": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(TensorFileError, match="damaged or cut"):
        read_tensors(tmp_path / "a.safetensors")


def test_other_refusals(tmp_path, tensors):
    with pytest.raises(FileNotFoundError, match="none.npz: no such file"):
        read_tensors(tmp_path / "none.npz")
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(
        TensorFileError, match=r"suffix '.h5' is not known; use one of .pt, .*.safetensors, .npz"
    ):
        read_tensors(tmp_path / "a.h5")
    np.savez(tmp_path / "code.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(TensorFileError, match="pickled Python objects, which may carry code"):
        read_tensors(tmp_path / "code.npz")
    np.savez(tmp_path / "whole.npz", x=np.zeros(1000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:2000])
    with pytest.raises(TensorFileError, match="cut.npz: damaged or cut"):
        read_tensors(tmp_path / "cut.npz")
    np.savez(tmp_path / "empty.npz")
    with pytest.raises(TensorFileError, match="holds no tensors"):
        read_tensors(tmp_path / "empty.npz")
    with pytest.raises(TensorFileError, match="a folder with 0 files mp_rank"):
        read_tensors(tmp_path)


def test_torch_files_without_torch_say_what_to_install(tmp_path, monkeypatch, tensors):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(
        ImportError, match=r"needs torch; install it with `pip install .vlmo-jax.convert..`"
    ):
        write_torch(tmp_path / "b.pt", tmp_path / "a.safetensors")


class Tripwire:
    """Unpickling it makes a file: proof that code ran."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_torch_files_come_back_exactly(tmp_path, torch, tensors):
    write_safetensors(tmp_path / "a.safetensors", tensors)
    write_torch(tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert zipfile.is_zipfile(tmp_path / "a.pt") and is_mapped(tmp_path / "a.pt")
    same(read_tensors(tmp_path / "a.pt"), tensors)
    torch.save(
        torch.load(tmp_path / "a.pt"), tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    same(read_tensors(tmp_path / "old.pth"), tensors)
    assert not is_mapped(tmp_path / "old.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "epoch": 3, "hyper_parameters": {"a": 1}},
        lambda t: {"model": t, "args": argparse.Namespace(lr=1.0), "optimizer": {"state": {}}},
        lambda t: {
            "module": {f"module.{name}": value for name, value in t.items()},
            "ds_config": {},
            "dp_world_size": 8,
        },
        lambda t: {"model": {"state_dict": t}},
        lambda t: t,
    ],
)
def test_torch_wrappers_come_off(tmp_path, torch, wrap):
    torch.save(wrap({"x.weight": torch.ones(2), "y": torch.zeros(1)}), tmp_path / "a.ckpt")
    assert set(read_tensors(tmp_path / "a.ckpt")) == {"x.weight", "y"}


def test_deepspeed_folder(tmp_path, torch):
    (tmp_path / "global_step10").mkdir()
    torch.save(
        {"module": {"x": torch.ones(2)}}, tmp_path / "global_step10" / "mp_rank_00_model_states.pt"
    )
    assert set(read_tensors(tmp_path)) == {"x"}
    torch.save({}, tmp_path / "global_step10" / "mp_rank_01_model_states.pt")
    with pytest.raises(TensorFileError, match="a folder with 2 files mp_rank"):
        read_tensors(tmp_path)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, torch):
    for new_format in (True, False):
        torch.save(
            {"state_dict": {"x": torch.ones(2)}, "extra": Tripwire(tmp_path / "ran")},
            tmp_path / "a.pt",
            _use_new_zipfile_serialization=new_format,
        )
        with pytest.raises(
            TensorFileError, match="its pickle asks for code beside tensors.*not loaded"
        ):
            read_tensors(tmp_path / "a.pt")
        assert not (tmp_path / "ran").exists()


def test_torch_refusals(tmp_path, torch):
    torch.save({"x": torch.ones(1000)}, tmp_path / "whole.pt")
    for keep in (0, 10, 500, -10):
        (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:keep])
        with pytest.raises(TensorFileError, match="cut.pt: damaged or cut"):
            read_tensors(tmp_path / "cut.pt")
    torch.save({"x": torch.ones(1), "steps": 3}, tmp_path / "mixed.pt")
    with pytest.raises(TensorFileError, match=r"\['steps'\] are no tensors"):
        read_tensors(tmp_path / "mixed.pt")
    torch.save(torch.ones(1), tmp_path / "one.pt")
    with pytest.raises(TensorFileError, match="holds a Tensor, not named tensors"):
        read_tensors(tmp_path / "one.pt")
