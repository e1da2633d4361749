"""Archives of TorchScript: weights by the names of their state dict, and not a line of code run."""

import numpy as np
import pytest

from tests.interop.torch_files import TorchFile, call, module, value
from vlmo_jax.interop.tensor_files import TensorFileError, check_whole, read_tensors

X = np.arange(6, dtype=np.float16).reshape(2, 3)


def write(tmp_path, make):
    file = TorchFile()
    return file.write_script(tmp_path / "clip.pt", make(file))


def test_tensors_of_modules_in_modules(tmp_path):
    def make(file):
        inner = module("torch.nn.Linear", weight=file.tensor(X), training=False, bias=None)
        blocks = module("torch.nn.Sequential", **{"0": inner, "training": False})
        sizes = call("torch.jit._pickle.build_intlist", [3, 4])
        return module(
            "clip.model.CLIP",
            training=False,
            visual=module("clip.model.Visual", blocks=blocks, sizes=sizes),
            logit_scale=file.tensor(np.float32(4.6), location="cuda:0"),
            input_resolution=file.tensor(np.int64(224)),
        )

    path = write(tmp_path, make)
    check_whole(path)
    found = read_tensors(path)
    assert set(found) == {"visual.blocks.0.weight", "logit_scale", "input_resolution"}
    assert found["visual.blocks.0.weight"].dtype == np.float16
    np.testing.assert_array_equal(found["visual.blocks.0.weight"], X)
    assert found["input_resolution"] == 224 and found["logit_scale"].shape == ()


def test_code_and_archives_without_weights_are_refused(tmp_path):
    for make, message in (
        (lambda f: module("M", x=call("os.system", "true")), "asks for code beside tensors"),
        (lambda f: module("M", x=call("torch.jit.load", "a")), "`torch.jit.load`"),
        (lambda f: value({"weight": f.tensor(X)}), "TorchScript without a module"),
        (lambda f: module("M", training=True), "has no weights"),
        (lambda f: module("M", weight=f.tensor(X, number=7)), "not 7 of float16"),
    ):
        with pytest.raises(TensorFileError, match=message):
            read_tensors(write(tmp_path, make))


def test_modules_that_hold_themselves_end(tmp_path):
    loop = module("M", again=value(None))
    looped = type(loop)(loop.replace(b"}(", b"q\x09}(", 1).replace(b"N", b"h\x09", 1))
    with pytest.raises(TensorFileError, match="in each other without end"):
        read_tensors(write(tmp_path, lambda f: looped))
