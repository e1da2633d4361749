"""The loss of NLVR2: cross-entropy of both pooled vectors, in one piece and in parts."""

import jax
import numpy as np

from tests import tiny
from tests.tasks.losses import mean_losses
from vlmo_jax.tasks.nlvr2 import Nlvr2Task, make_comparer

HEADS = dict(heads=("nlvr2",))
TASK = Nlvr2Task()


def make_batch():
    batch, other = tiny.make_batch(6), tiny.make_batch(6, seed=1)
    texts = {name: batch[name] for name in ("token_ids", "token_mask")}
    return {
        "image_0": batch["image"],
        "image_1": other["image"],
        **texts,
        "label": np.array([0, 1, 1, 0, 1, 0], np.int32),
    }


@jax.jit
def losses(params, part, batch):
    return mean_losses(TASK, tiny.model(params, **HEADS), part, batch)


def test_loss_and_accuracy_are_those_of_the_probabilities():
    params, batch = tiny.params(**HEADS), make_batch()
    probability = np.asarray(
        make_comparer(tiny.graphdef(**HEADS), mean=TASK.mean, std=TASK.std)(params, batch)
    )
    whole, metrics = losses(params, batch, batch)
    truth = np.where(batch["label"] == 1, probability, 1 - probability)
    np.testing.assert_allclose(whole, -np.log(truth).mean(), rtol=1e-4)
    np.testing.assert_allclose(metrics["nlvr2_accuracy"], (truth > 0.5).mean())
    rows = [{name: value[a : a + 3] for name, value in batch.items()} for a in (0, 3)]
    np.testing.assert_allclose(
        sum(losses(params, part, batch)[0] for part in rows), whole, rtol=1e-5
    )


def test_the_images_are_told_apart():
    params, batch = tiny.params(**HEADS), make_batch()
    swapped = {**batch, "image_0": batch["image_1"], "image_1": batch["image_0"]}
    assert not np.allclose(losses(params, batch, batch)[0], losses(params, swapped, swapped)[0])
