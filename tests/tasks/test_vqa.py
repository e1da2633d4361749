"""The loss of VQA against the official one, in one piece and in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.paths import DATA
from tests.tasks.losses import mean_losses
from vlmo_jax.interop.checks.reference import Reference, load_fixture, official_batch
from vlmo_jax.tasks.vqa import VqaTask, make_answerer

TASK = VqaTask()


@pytest.fixture(scope="module")
def official():
    """The stored arrays, our graphdef and parameters, and a batch with the answers as rows."""
    arrays, info = load_fixture(DATA / "vlmo" / "tiny_base_vqa.npz")
    reference = Reference(arrays, info)
    batch = official_batch(reference.group("in"))
    targets = reference.group("out")["vqa_targets"]
    order = np.argsort(-targets, axis=1)[:, :10].astype(np.int32)
    scores = np.take_along_axis(targets, order, axis=1)
    assert (targets.sum(1) == scores.sum(1)).all() and (scores > 0).any()
    batch |= {"answer_ids": np.where(scores > 0, order, -1), "answer_scores": scores}
    return reference, jax.tree.map(jnp.asarray, batch)


def test_the_loss_is_the_official_one_also_in_parts(official):
    reference, batch = official
    params, graphdef = reference.params("param"), reference.graphdef

    @jax.jit
    def losses(params, part, batch):
        return mean_losses(TASK, nnx.merge(graphdef, params), part, batch)

    with jax.default_matmul_precision("highest"):
        whole, metrics = losses(params, batch, batch)
        rows = [slice(row, row + 1) for row in range(len(batch["token_ids"]))]
        parts = [
            losses(params, {name: value[row] for name, value in batch.items()}, batch)[0]
            for row in rows
        ]
    np.testing.assert_allclose(whole, reference.group("out")["vqa_loss"], rtol=1e-5)
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-6)
    best = reference.group("out")["vqa_logits"].argmax(1)
    score = np.take_along_axis(reference.group("out")["vqa_targets"], best[:, None], axis=1).mean()
    np.testing.assert_allclose(metrics["vqa_score"], score, rtol=1e-6)


def test_the_answers_are_the_likeliest(official):
    reference, batch = official
    answer = make_answerer(reference.graphdef, mean=(0.5,) * 3, std=(0.5,) * 3, top_k=4)
    found = answer(reference.params("param"), batch)
    logits = reference.group("out")["vqa_logits"]
    np.testing.assert_array_equal(found.answer_ids, np.argsort(-logits, axis=1)[:, :4])
    assert (np.diff(found.probability, axis=1) <= 0).all() and found.probability.max() <= 1
