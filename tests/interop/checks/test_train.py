"""Ten steps: the stored arrays hold, and the check notices whenever one of them is another."""

import re

import numpy as np
import pytest

from tests.interop.checks.changes import failures, moved
from tests.paths import DATA
from vlmo_jax.interop import check as checking
from vlmo_jax.interop.checks import train as check_train
from vlmo_jax.interop.checks.reference import load_fixture

FIXTURE = DATA / "vlmo" / "tiny_base_train10.npz"


@pytest.fixture(scope="module", autouse=True)
def one_step():
    """All training runs here have the same sizes and rates: they share one compiled step."""
    steps, make = [], check_train.jit_step

    def make_once(*args, **kwargs):
        steps.extend([] if steps else [make(*args, **kwargs)])
        return steps[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_train, "jit_step", make_once)
        yield


@pytest.fixture(scope="module")
def train10():
    return load_fixture(FIXTURE)


def test_official_arrays_hold(capsys):
    assert checking.check(FIXTURE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 150 and all(line.startswith("ok") for line in lines[:-1])


def test_every_changed_result_of_training_is_noticed(train10):
    arrays = train10[0]
    params = {
        key: moved(value)
        for key, value in arrays.items()
        if key.split("/")[0] in ("after2", "final")
    }
    out = {key: moved(value) for key, value in arrays.items() if key.startswith("out/")}
    failed = failures(
        *train10,
        {**params, **out, "batch/text_labels": moved(arrays["batch/text_labels"])},
    )
    assert {re.sub(r"\[\d+\]", "", name) for name in failed} == {*params, *out, "batch/text_labels"}


@pytest.mark.parametrize(
    "key",
    [
        "init/logit_scale",
        "init/transformer.blocks.3.norm2_vl.weight",
        "init/text_embeddings.position_embeddings.weight",
        "batch/image",
        "batch/text_ids",
    ],
)
def test_changed_start_or_batches_of_training_are_noticed(train10, key):
    array = np.array(train10[0][key])
    array[(0,) * array.ndim] += 1
    assert failures(*train10, {key: array})
