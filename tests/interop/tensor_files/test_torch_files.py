"""Torch's files without torch: every value as it was written, and no pickle that runs code."""

import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tests.interop.torch_files import Code, TorchFile, call, named, value, whole
from vlmo_jax.interop.tensor_files import TensorFileError, check_whole, read_tensors

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def refused(path, message):
    with pytest.raises(TensorFileError, match=message) as error:
        read_tensors(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.fixture
def write(tmp_path):
    """Writes what a function of a TorchFile gives, and says where."""

    def write(content, **how):
        file = TorchFile()
        return file.write(tmp_path / "a.pt", content(file), **how)

    return write


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", [2, 5])
def test_every_type_comes_back(write, old, protocol):
    arrays = {
        name: X.astype(getattr(ml_dtypes, name, name))
        for name in ("float64", "float32", "float16", "bfloat16", "int64", "int8", "uint8", "bool")
    }
    path = write(
        lambda file: {name: file.tensor(value) for name, value in arrays.items()},
        old=old,
        protocol=protocol,
    )
    found = read_tensors(path)
    for name, expected in arrays.items():
        assert found[name].dtype == expected.dtype
        assert found[name].tobytes() == expected.tobytes()


@pytest.mark.parametrize("old", [False, True])
def test_views_of_shared_storages(write, old):
    def content(file):
        first = file.tensor(X)
        again = dict(key="0", number=12)
        return {
            "whole": first,
            "tied": file.tensor(X, **again),
            "turned": file.tensor(X, shape=(4, 3), strides=(1, 4), **again),
            "part": file.tensor(X, shape=(2, 2), strides=(4, 2), offset=1, **again),
            "spread": file.tensor(X, shape=(2, 3), strides=(0, 4), **again),
            "overlap": file.tensor(X, shape=(3, 3), strides=(1, 1), **again),
            "empty": file.tensor(X, shape=(0, 7), strides=(7, 1), **again),
        }

    found = read_tensors(write(content, old=old))
    expected = {
        "whole": X,
        "tied": X,
        "turned": X.T,
        "part": [[1, 3], [5, 7]],
        "spread": [[0, 4, 8]] * 2,
        "overlap": [[0, 1, 2], [1, 2, 3], [2, 3, 4]],
        "empty": np.zeros((0, 7)),
    }
    for name, values in expected.items():
        assert np.array_equal(found[name], values), name


def test_newer_types_and_parameters(write):
    def content(file):
        def untyped(array, dtype):
            return file.tensor(
                array.view(np.uint8),
                shape=array.shape,
                strides=(1,),
                kind="torch.storage.UntypedStorage",
                function="torch._utils._rebuild_tensor_v3",
                more=(named(f"torch.{dtype}"),),
            )

        return {
            "u16": untyped(np.array([1, 65535], np.uint16), "uint16"),
            "f8": untyped(np.array([0.5, 2], ml_dtypes.float8_e4m3fn), "float8_e4m3fn"),
            "p": call("torch._utils._rebuild_parameter", file.tensor(X), True, {}),
        }

    found = read_tensors(write(content))
    assert found["u16"].tolist() == [1, 65535] and found["u16"].dtype == np.uint16
    assert found["f8"].astype(float).tolist() == [0.5, 2.0]
    assert np.array_equal(found["p"], X)


@pytest.mark.parametrize(
    "tensor, message",
    [
        (lambda f: call("torch._utils._rebuild_sparse_tensor", 1), "sparse; .*to_dense"),
        (lambda f: call("torch._utils._rebuild_qtensor", 1), "quantised; .*dequantize"),
        (lambda f: f.tensor(X, kind="torch.QUInt8Storage"), "quantised"),
        (lambda f: call("torch._utils._rebuild_meta_tensor_no_storage", 1), "device `meta`"),
        (lambda f: f.tensor(X, location="meta"), "device `meta`"),
        (lambda f: f.tensor(X, shape=(-3, -4)), "are not all whole numbers from 0"),
        (lambda f: f.tensor(X, strides=(-4, 1)), "are not all whole numbers from 0"),
        (lambda f: f.tensor(X, offset=True), "are not all whole numbers from 0"),
        (lambda f: f.tensor(X, offset=1), r"reach element 12 of a storage of 12"),
        (lambda f: f.tensor(X, shape=(2**40, 2**40)), "beyond all memory"),
        (lambda f: f.tensor(X, shape=(0, 2**61), strides=(1, 1)), "beyond all memory"),
        (lambda f: f.tensor(X, shape=(2**20, 2**20), strides=(0, 0)), "repeat 48 bytes up to"),
        (lambda f: f.tensor(X, number=7), "has 48 bytes, not 7 of float32"),
        (lambda f: f.tensor(X, kind="torch.FancyStorage"), "FancyStorage, which is not known"),
        (lambda f: f.tensor(X, shape=(3,)), "2 strides for 1 axes"),
        (lambda f: call("torch._utils._rebuild_tensor_v2", 1), "without storage"),
        (lambda f: f.tensor(X, more=({"neg": True},)), "a negated view"),
    ],
)
def test_tensors_that_cannot_be_had_are_named(write, tensor, message):
    path = write(lambda file: {"state_dict": {"fine": file.tensor(X), "odd.weight": tensor(file)}})
    refused(path, f"tensor odd.weight cannot be read: .*{message}")


def test_what_is_beside_the_tensors_is_said(write):
    path = write(
        lambda file: {
            "epoch": 3,
            "state_dict": {"module.x": file.tensor(X), "n_averaged": file.tensor(np.asarray(3))},
            "rng": file.tensor(np.zeros(4, np.uint8)),
            "args": call("argparse.Namespace"),
        }
    )
    found = read_tensors(path)
    assert list(found) == ["x"]
    assert found.taken_off == (
        "took off module. from 1 names; left out n_averaged; left out epoch, rng, args"
    )


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "torch.hub.load", "a.B.c", "torch.load"]
)
def test_code_is_named_and_never_run(write, tmp_path, monkeypatch, old, name):
    monkeypatch.setattr("os.system", lambda command: pytest.fail("code ran"))
    path = write(
        lambda file: {"x": file.tensor(X), "y": call(name, f"touch {tmp_path}/ran")}, old=old
    )
    refused(path, f"asks for code beside tensors, `{name}`, .*refused.*torch.save.model.state_dict")
    assert not (tmp_path / "ran").exists()


class Tripwire:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"x": Tripwire(tmp_path / "ran")}, protocol))
    refused(path, r"asks for code beside tensors, `(builtins.getattr|pathlib.*Path.touch)`")
    assert not (tmp_path / "ran").exists()
    path.write_bytes(pickle.dumps({"x": [1, 2.5, {"y": (None, True, b"z", {1})}]}, protocol))
    refused(path, "are no tensors|asks for code .*`_codecs.encode`")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02(.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02}]K\x01s.",
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02h\x07.",
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
        b"\x80\x02r\xff\xff\xff\xff.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97.",
        b"}" + b"(" * 10_000 + b"t" * 10_000 + b".",
        b"L" + b"9" * 5000 + b"L\n.",
    ],
)
def test_pickles_that_make_no_sense(tmp_path, content):
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    refused(path, "damaged or cut|not named tensors")


def test_containers_in_themselves(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02}q\x00X\x05\x00\x00\x00modelh\x00s.")
    refused(path, r"\['model'\] are no tensors")


def test_archives_of_programs_and_of_others(tmp_path, write):
    path = write(lambda file: {"x": file.tensor(X)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/code/__torch__.py", "")
    refused(path, "TorchScript without a module")
    np.savez(tmp_path / "b.npz", x=X)
    (tmp_path / "b.npz").rename(tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "0 members data.pkl")


def test_bombs_are_not_inflated(tmp_path, write):
    small = write(lambda file: {"x": file.tensor(X)}, compression=zipfile.ZIP_DEFLATED)
    assert np.array_equal(read_tensors(small)["x"], X)
    big = np.broadcast_to(np.float32(0), 2**25)
    bomb = write(lambda file: {"x": file.tensor(big)}, compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**18
    refused(bomb, r"archive/data/0 would inflate from [\d,]+ to 134,217,728 bytes")
    np.savez_compressed(tmp_path / "b.npz", x=big)
    refused(tmp_path / "b.npz", r"x.npy would inflate from [\d,]+ to 134,217,856 bytes")


def test_one_flipped_bit_is_noticed_before_conversion(write):
    path = write(lambda file: {"x": file.tensor(X)})
    check_whole(path)
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()) + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match="archive/data/0.*checksum|CRC"):
        check_whole(path)


def test_old_files_that_are_cut_or_of_another_order(tmp_path, write):
    content = write(lambda file: {"x": file.tensor(X)}, old=True).read_bytes()
    for keep in (1, 30, 100, len(content) - 60, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:keep])
        refused(tmp_path / "cut.pt", "damaged or cut")
    (tmp_path / "big.pt").write_bytes(content.replace(value(True), value(False), 1))
    refused(tmp_path / "big.pt", "the other byte order")
    assert whole(Code(b"N")) == b"\x80\x02N."
