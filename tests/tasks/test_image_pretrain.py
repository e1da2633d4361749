"""The task of stage 1: labels from a frozen tokenizer, and a loss that is a sum of its parts'
shares.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.tasks.losses import mean_losses
from vlmo_jax.models.beit import BEiT
from vlmo_jax.tasks.image_pretrain import ImagePretrainTask

CODES, GRID = 16, 4


class BrightnessTokenizer(nnx.Module):
    """Code of a patch: how bright it is, in steps of one sixteenth, plus an offset."""

    def __init__(self):
        self.offset = nnx.Param(jnp.zeros((), jnp.int32))

    def logits(self, image):
        grey = image.mean(-1).reshape(-1, GRID, 2, GRID, 2).mean(axis=(2, 4))
        return jax.nn.one_hot(
            jnp.clip((grey * CODES).astype(jnp.int32) + self.offset[...], 0, CODES - 1), CODES
        )


@pytest.fixture(scope="module", autouse=True)
def without_a_mesh():
    with nnx.use_eager_sharding(False):
        yield


@pytest.fixture(scope="module")
def task():
    return ImagePretrainTask(visual_tokenizer=nnx.graphdef(BrightnessTokenizer()), dropout=True)


def make_batch(rows=4):
    rng = np.random.default_rng(0)
    positions = np.stack([np.sort(rng.choice(16, 5, replace=False)) for _ in range(rows)]).astype(
        np.int32
    )
    positions[1, 3:] = -1
    return {
        "image": rng.integers(0, 256, (rows, 16, 16, 3), np.uint8),
        "tokenizer_image": rng.integers(0, 256, (rows, 8, 8, 3), np.uint8),
        "masked_positions": positions,
        "image_id": np.arange(rows, dtype=np.uint32),
    }


def frozen(offset=0):
    return {"offset": jnp.asarray(offset, jnp.int32)}


def prepare(task, batch, offset=0):
    return task.prepare(batch, None, {}, frozen(offset)).batch


def test_labels_are_the_codes_of_the_hidden_patches_of_the_other_view(task):
    batch = make_batch()
    prepared = jax.jit(lambda batch: prepare(task, batch, 1))(batch)
    patches = (
        batch["tokenizer_image"].reshape(4, 4, 2, 4, 2, 3).mean(axis=(2, 4, 5)).reshape(4, 16) / 255
    )
    codes = np.minimum((patches * CODES).astype(int) + 1, CODES - 1)
    for row, positions in enumerate(batch["masked_positions"]):
        expected = [codes[row, place] if place >= 0 else -1 for place in positions]
        np.testing.assert_array_equal(prepared["mim_labels"][row], expected)
    assert float(task.counts(prepared)["mim_loss"]) == 18 and "tokenizer_image" not in prepared
    other = prepare(task, batch, 5)
    assert (other["mim_labels"] != prepared["mim_labels"]).any()


@pytest.fixture(scope="module")
def model():
    return BEiT(
        image_size=16,
        patch_size=4,
        vocab_size=CODES,
        width=16,
        depth=2,
        num_heads=2,
        mlp_dim=16,
        num_upper=1,
        drop_path_rate=0.5,
        rngs=nnx.Rngs(0),
    )


def test_shares_of_the_parts_sum_to_the_mean_over_all_masked_patches(task, model):
    batch = prepare(task, make_batch())
    quiet = ImagePretrainTask(visual_tokenizer=None, dropout=False)
    share = jax.jit(lambda part: mean_losses(quiet, model, part, batch))
    loss, metrics = share(batch)
    parts = [
        share({name: value[rows] for name, value in batch.items()})
        for rows in (slice(0, 2), slice(2, 4))
    ]
    np.testing.assert_allclose(loss, sum(part[0] for part in parts), rtol=1e-5)
    for name in ("mim_loss", "mim_accuracy"):
        np.testing.assert_allclose(
            metrics[name], sum(part[1][name] for part in parts), rtol=1e-5, atol=1e-6
        )
    logits = jax.jit(model.predict_masked)(
        (batch["image"] / 255.0 - 0.5) / 0.5, batch["masked_positions"]
    )
    logits = jax.nn.log_softmax(logits)
    used = batch["mim_labels"] >= 0
    picked = np.take_along_axis(
        np.asarray(logits), np.maximum(batch["mim_labels"], 0)[..., None], -1
    )[..., 0]
    np.testing.assert_allclose(loss, -picked[used].mean(), rtol=1e-5)
    right = np.asarray(logits).argmax(-1) == batch["mim_labels"]
    np.testing.assert_allclose(metrics["mim_accuracy"], right[used].mean(), rtol=1e-5)


def test_drop_path_draws_only_if_asked_to(task, model):
    batch = prepare(task, make_batch())
    drawing = jax.jit(lambda seed: mean_losses(task, model, batch, batch, seed)[0])
    losses = [float(drawing(seed)) for seed in (0, 0, 1, 2)]
    assert losses[0] == losses[1] and len(set(losses)) > 1
    quiet_task = ImagePretrainTask(visual_tokenizer=None, dropout=False)
    quiet = jax.jit(lambda seed: mean_losses(quiet_task, model, batch, batch, seed)[0])
    assert quiet(0) == quiet(1)
