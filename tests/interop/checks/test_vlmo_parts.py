"""Position indices and the optimizer alone: the official ones hold, changed ones are noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import failures
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

INDEX = load_fixture(DATA / "vlmo" / "index_tables.npz")
ADAMW = load_fixture(DATA / "vlmo" / "adamw_toy.npz")


@pytest.mark.parametrize("fixture", [INDEX, ADAMW], ids=["index_tables", "adamw_toy"])
def test_official_arrays_hold(fixture):
    assert failures(*fixture) == set()


@pytest.mark.parametrize("name", sorted(INDEX[0]))
def test_a_changed_index_is_noticed(name):
    changed = INDEX[0][name].copy()
    changed[-1, 0] += 1
    assert failures({**INDEX[0], name: changed}, INDEX[1]) == {name}


def test_tables_that_are_missing_or_of_no_size_are_noticed():
    case = "img32_p8_txt12_init20"
    rest = {n: a for n, a in INDEX[0].items() if n != f"{case}/text_relative_position_index"}
    (noticed,) = failures(rest, INDEX[1])
    assert case in noticed and "ours alone ['text_relative_position_index']" in noticed
    with pytest.raises(ValueError, match="tells no sizes"):
        failures({"odd/relative_position_index": np.zeros((2, 2))}, INDEX[1])


def test_another_optimizer_is_noticed():
    arrays, info = ADAMW
    swapped = {**arrays, "out/transformers": arrays["out/torch_for_contrast"]}
    assert failures(swapped, info) == {"out/transformers"}
    alike = {**arrays, "out/torch_for_contrast": arrays["out/transformers"]}
    assert failures(alike, info) == {"out/torch_for_contrast is another"}
    decays_more = {**info, "config": {"weight_decay": 0.3}}
    assert failures(arrays, decays_more) == {"out/transformers"}
