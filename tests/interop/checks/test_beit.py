"""Outputs, loss and every gradient of BEiT are those of the reference arrays."""

import json

import jax
import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.interop.checks.beit import check_beit
from vlmo_jax.interop.checks.reference import group

FIXTURES = DATA / "siblings"
SHARED, OWN, OFFICIAL = NAMES = (
    "beit_shared_relpos",
    "beit_perlayer_relpos",
    "beit_official_abspos_perlayer",
)


class Report:
    """Every comparison: name -> share of its tolerance that the difference takes up."""

    def __init__(self):
        self.shares = {}

    def compare(self, name, ours, theirs, tolerance):
        assert np.shape(ours) == np.shape(theirs), name
        self.shares[name] = np.abs(np.asarray(ours, np.float64) - theirs).max() / max(
            tolerance, 1e-30
        )


def arrays_of(name):
    return dict(np.load(FIXTURES / f"{name}.npz"))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_loss_and_every_gradient_are_those_of_beit(name):
    report, arrays = Report(), arrays_of(name)
    with jax.default_matmul_precision("highest"):
        check_beit(arrays, json.loads((FIXTURES / f"{name}.json").read_text()), report)
    compared = {key.removeprefix("grad/") for key in report.shares if key.startswith("grad/")}
    assert compared == set(group(arrays, "param"))
    assert {"logits", "loss", "relative_position_index"} <= set(report.shares)
    assert ("hidden_after_norm" in report.shares) == ("hidden_after_norm" in arrays)
    assert max(report.shares.values()) <= 1, {
        key: share for key, share in report.shares.items() if share > 1
    }


def test_a_wrong_epsilon_shows():
    report, info = Report(), json.loads((FIXTURES / f"{OWN}.json").read_text())
    assert info["config"]["layer_norm_eps"] == 1e-12
    info["config"]["layer_norm_eps"] = 1e-3
    with jax.default_matmul_precision("highest"):
        check_beit(arrays_of(OWN), info, report)
    assert report.shares["logits"] > 10
