"""The command: which check a fixture gets, and what its report says."""

import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.interop import check as checking

FIXTURES = DATA / "vlmo"


def test_nan_does_not_hold(capsys):
    report = checking.Report()
    report.compare("x", [np.nan], [np.nan], 1.0)
    report.compare("y", [1.0, 2.0], [1.0], 1.0)
    assert report.failed == 2 and "shapes (2,) and (1,)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, info, kind",
    [
        ("some.npz", {"kind": "resize", "source": "beit"}, "resize"),
        ("some.npz", {"source": "DALL-E 0.1 (PyPI) dall_e.encoder.Encoder"}, "dalle"),
        ("some.npz", {"source": "microsoft/unilm beit/modeling_pretrain.py"}, "beit"),
        ("some.npz", {"source": "transformers.BeitForMaskedImageModeling"}, "beit"),
        ("dvae_encoder.npz", {}, "dalle"),
    ],
)
def test_kinds_without_a_kind(name, info, kind):
    assert checking.fixture_kind(name, info) == kind


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="NAME.npz with NAME.json"):
        checking.check(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz")
    (tmp_path / "other.json").write_text(
        (FIXTURES / "tiny_base_pretrain.json").read_text().replace('"pretrain"', '"vse"')
    )
    with pytest.raises(
        ValueError,
        match="kind 'vse' is not known; known kinds: .*irtr, layer_decay, mixup, nlvr2, .*pretrain",
    ):
        checking.check(tmp_path / "other.npz")
