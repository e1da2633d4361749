"""What wrappers put before names and beside tensors, and what is said of it."""

import itertools

import numpy as np
import pytest

from vlmo_jax.interop.tensor_files import TensorFileError, read_tensors, write_safetensors
from vlmo_jax.interop.tensor_files.names import PREFIXES, unwrap_names

WEIGHTS = {"blocks.0.x.weight": np.arange(3.0), "y": np.ones((2, 2), np.float32)}


@pytest.mark.parametrize("prefixes", [*itertools.permutations(PREFIXES[:6], 2), PREFIXES[4:8]])
def test_prefixes_come_off_in_any_order(tmp_path, prefixes):
    file, prefix = tmp_path / "a.safetensors", "".join(prefixes)
    write_safetensors(file, {prefix + name: value for name, value in WEIGHTS.items()})
    found = read_tensors(file)
    assert found.taken_off == f"took off {prefix} from 2 names"
    assert found.keys() == WEIGHTS.keys()
    assert all(np.array_equal(found[name], value) for name, value in WEIGHTS.items())


def test_counters_of_averages_are_left_out_and_said(tmp_path):
    wrapped = {f"module._orig_mod.{name}": value for name, value in WEIGHTS.items()}
    counters = {
        "n_averaged": np.asarray(5),
        "module._orig_mod.norm.num_batches_tracked": np.asarray([7]),
    }
    write_safetensors(tmp_path / "a.safetensors", wrapped | counters)
    found = read_tensors(tmp_path / "a.safetensors")
    assert found.keys() == WEIGHTS.keys()
    assert found.taken_off == (
        "took off module._orig_mod. from 2 names; left out n_averaged,"
        " module._orig_mod.norm.num_batches_tracked"
    )
    # What has values is no counter, whatever its name.
    weight = {"step": np.ones(3), "y": np.ones(2)}
    assert unwrap_names("a", weight).tensors.keys() == weight.keys()


def test_wrapped_parts_in_the_middle():
    names = (
        "_fsdp_wrapped_module.blocks.0._fsdp_wrapped_module.mlp.weight",
        "_fsdp_wrapped_module.blocks.0._checkpoint_wrapped_module._orig_mod.norm.bias",
        "_fsdp_wrapped_module.my_orig_mod.bias",
    )
    found = unwrap_names("a", {name: np.ones(1) for name in names})
    assert list(found.tensors) == ["blocks.0.mlp.weight", "blocks.0.norm.bias", "my_orig_mod.bias"]
    assert found.taken_off == (
        "took off _fsdp_wrapped_module. from 3 names; took off _fsdp_wrapped_module. in 1 places;"
        " took off _checkpoint_wrapped_module. in 1 places; took off _orig_mod. in 1 places"
    )


@pytest.mark.parametrize(
    "names, message",
    [
        (
            ("ema_model.x", "ema_model.y", "model.x", "model.y"),
            "two models, ema_model. .2 tensors.*x",
        ),
        (("a.x", "a._orig_mod.x"), "a.x and a._orig_mod.x are both a.x"),
    ],
)
def test_two_models_are_not_mixed(tmp_path, names, message):
    write_safetensors(tmp_path / "a.safetensors", {name: np.ones(2) for name in names})
    with pytest.raises(TensorFileError, match=f"a.safetensors: .*{message}.*alone"):
        read_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 301, "\ud800", "a\x1b[31m"])
def test_names_that_nobody_can_read(tmp_path, name):
    write_safetensors(tmp_path / "a.safetensors", {name: np.ones(2)})
    with pytest.raises(TensorFileError, match=r"is no name of a tensor") as error:
        read_tensors(tmp_path / "a.safetensors")
    assert str(error.value).isprintable() and len(str(error.value)) < 400
