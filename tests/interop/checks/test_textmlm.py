"""Stage 2: the stored arrays hold, and every change is noticed."""

import re

import numpy as np
import pytest

from configs import common, stage2
from tests.interop.checks.changes import failures, moved
from tests.paths import DATA
from vlmo_jax.interop.check import CHECKS
from vlmo_jax.interop.checks import textmlm as check_textmlm
from vlmo_jax.interop.checks.reference import Reference, load_fixture
from vlmo_jax.interop.checks.textmlm import compare_start, start_from_beit

FIXTURES = DATA / "vlmo"


@pytest.fixture(scope="module")
def textmlm():
    return load_fixture(FIXTURES / "tiny_base_textmlm.npz")


def test_arrays_hold_and_every_changed_result_is_noticed(textmlm):
    arrays, info = textmlm
    assert failures(arrays, info) == set()
    results = {
        key: moved(value)
        for key, value in arrays.items()
        if key.split("/")[0] in ("out", "grad", "buffer")
    }
    assert len(results) == 45 and failures(arrays, info, results) == set(results)


def test_rules_are_those_of_the_recipe():
    assert (
        check_textmlm.FROZEN == stage2.FROZEN
        and check_textmlm.FROZEN_SCALES == stage2.FROZEN_SCALES
    )
    ours = dict(init_rules=check_textmlm.INIT_RULES, init_fresh=check_textmlm.INIT_FRESH)
    assert ours == common.WARM_STARTS["stage2"]


def start_failures(arrays, info, changed):
    """Names of what does not hold of the start when arrays of the fixture are replaced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHECKS, "textmlm", compare_start_alone)
        return failures(arrays, info, changed)


def compare_start_alone(arrays, info, report):
    compare_start(Reference(arrays, info), report)


def test_every_changed_start_is_noticed(textmlm):
    """All of a kind at once: each shows under its own name, and nothing else does."""
    arrays, info = textmlm
    kinds = {
        re.sub(r"\d+", "", key): key
        for key in arrays
        if key.split("/")[0] in ("beit", "before", "param")
    }
    changed = {key: moved(arrays[key]) for key in kinds.values()}
    # The official loader passes over these tensors of BEiT, and takes BEiT's values of these
    # parameters.
    unused = {
        key
        for key in changed
        if re.match("beit/(mask_token|lm_head|.*relative_position_index)", key)
    }
    replaced = {key for key in changed if re.match(r"before/transformer\.(?!.*_text)", key)}
    assert len(unused) == 4 and len(replaced) == 17
    changed["before/relative_position_bias_table"][-1] += 1  # its image rows are BEiT's
    for group in ("beit", "before", "param"):
        some = {key for key in set(changed) - unused - replaced if key.startswith(f"{group}/")}
        assert len(some) > 10
        failed = start_failures(arrays, info, {key: changed[key] for key in some})
        assert failed == {official_param(key) for key in some} and len(failed) == len(some)


def official_param(key):
    """The parameter of the VLMo that an array of the fixture gives."""
    group, name = key.split("/")
    if group != "beit":
        return f"param/{name}"
    if "relative_position" in name:
        return "param/relative_position_bias_table"
    return "param/transformer." + re.sub(r"\.(norm2|mlp)\.", r".\1_imag.", name)


def test_changed_inputs_are_noticed(textmlm):
    arrays, info = textmlm
    for key in [key for key in arrays if key.startswith("in/")]:
        array = np.array(arrays[key])
        array[0, 1] = 0 if key == "in/text_masks" else array[0, 1] + 1
        assert failures(arrays, info, {key: array}), key


def test_another_split_into_frozen_and_trained_is_noticed(textmlm):
    arrays, info = textmlm
    for trainable in (info["trainable"][1:], [*info["trainable"], "transformer.cls_token"]):
        failed = failures(arrays, {**info, "trainable": trainable})
        assert len(failed) == 1 and " trained  ours alone" in failed.pop()


def test_shared_table_goes_to_every_layer(textmlm):
    arrays, info = textmlm
    table = "rel_pos_bias.relative_position_bias_table"
    first = arrays["beit/blocks.0.attn.relative_position_bias_table"]
    arrays = {key: a for key, a in arrays.items() if not re.match("beit/.*relative", key)}
    start, unused = start_from_beit(Reference({**arrays, f"beit/{table}": first}, info))
    assert table not in unused
    np.testing.assert_array_equal(
        start["relative_position_bias_table"][: len(first)], np.tile(first, 4)
    )


def test_missing_gradient_is_refused(textmlm):
    arrays, info = textmlm
    with pytest.raises(ValueError, match="no gradient of .'mlm_score.bias'"):
        failures({key: a for key, a in arrays.items() if key != "grad/mlm_score.bias"}, info)
