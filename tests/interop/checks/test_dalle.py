"""The numbers of DALL-E's encoder hold, and the check notices another one."""

import json

import jax
import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.interop.checks import dalle as checking

FIXTURE = DATA / "siblings" / "dvae_encoder.npz"


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(FIXTURE)), json.loads(FIXTURE.with_suffix(".json").read_text())


class Report:
    """Names of all that was compared, and of what does not hold."""

    def __init__(self):
        self.names, self.seen = set(), set()

    def compare(self, name, ours, theirs, tolerance):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        self.seen.add(name)
        if ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= tolerance:
            self.names.add(name)


def check(arrays, info):
    report = Report()
    with jax.default_matmul_precision("highest"):
        checking.check_dalle(arrays, info, report)
    return report


def test_official_encoder_holds(reference):
    report = check(*reference)
    assert not report.names
    assert {"mapped", "unmapped", "logits", "codes"} < report.seen
    assert sum(name.startswith("grad/") for name in report.seen) == reference[1]["n_grad_arrays"]


def test_gradients_hold_relative_to_themselves(reference, monkeypatch):
    """Some gradients of the fixture are all below the absolute floor of the tolerance."""
    monkeypatch.setattr(checking, "GRADIENT_FLOOR", 0.0)
    monkeypatch.setattr(checking, "GRADIENT_TOLERANCE", 1e-3)
    assert not check(*reference).names


@pytest.mark.parametrize(
    "name",
    ["mapped", "unmapped", "logits", "codes", "grad/blocks.input.w", "grad/blocks.output.conv.b"],
)
def test_a_wrong_number_is_noticed(reference, name):
    arrays, info = reference
    changed = arrays[name].copy()
    changed[(0,) * changed.ndim] += 1
    assert check({**arrays, name: changed}, info).names == {name}


def test_a_fixture_of_other_sizes_is_refused(reference):
    arrays, info = reference
    with pytest.raises(ValueError, match=r"\(4, 2, 8, 64\).*\(4, 2, 16, 64\)"):
        check(arrays, {**info, "config": {**info["config"], "n_hid": 16}})
    with pytest.raises(ValueError, match="no gradient of .*blocks.input.w"):
        check(
            {name: value for name, value in arrays.items() if name != "grad/blocks.input.w"}, info
        )
