"""Held-out masked image modelling."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from tests import tiny
from vlmo_jax.datasets import Record
from vlmo_jax.evals.masked_images import MaskedImageEvaluator
from vlmo_jax.input.masked_images import EvalMaskedImages, MaskedViews
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.models.beit import BEiT
from vlmo_jax.models.build import abstract_model
from vlmo_jax.tasks.image_pretrain import ImagePretrainTask, make_masked_image_model

VIEWS = MaskedViews(image_size=16, tokenizer_image_size=8, patch_size=4, num_masked=6, min_block=2)


class Tokenizer(nnx.Module):
    """Four codes: how bright each of the 16 patches is."""

    def __init__(self):
        self.scale = nnx.Param(jnp.asarray(4.0))

    def logits(self, image):
        grey = image.mean(-1).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
        return jax.nn.one_hot(jnp.clip(grey * self.scale[...], 0, 3).astype(jnp.int32), 4)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (11, 4, 4, 1), np.uint8).repeat(3, -1)
    return [
        Record(png(np.kron(x, np.ones((4, 4, 1), np.uint8))), (), (), f"image {i}")
        for i, x in enumerate(levels)
    ]


@pytest.fixture(scope="module")
def functions():
    graphdef, _ = abstract_model(make)
    with nnx.use_eager_sharding(False):
        task = ImagePretrainTask(tokenizer=nnx.graphdef(Tokenizer()))
    return make_masked_image_model(graphdef, task)


def make(rngs):
    return BEiT(
        image_size=16,
        patch_size=4,
        vocab_size=4,
        width=8,
        depth=2,
        num_heads=2,
        mlp_dim=8,
        num_upper=1,
        rngs=rngs,
    )


@pytest.fixture(scope="module")
def params():
    with nnx.use_eager_sharding(False):
        shapes = nnx.to_pure_dict(nnx.state(make(nnx.Rngs(0))))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)


EXTRA = {"tokenizer": {"scale": np.asarray(4.0, np.float32)}}


def whole_split(records):
    maker = EvalMaskedImages(records, VIEWS)
    batch = empty_batch(maker.columns, len(records))
    for number in range(len(records)):
        maker.write(batch, number, number, number)
    return batch


@pytest.mark.parametrize("batch_size, mesh", [(4, (1, 1, 1)), (16, (4, 2, 1))])
def test_every_hidden_patch_counts_once_whatever_the_batches(
    records, functions, params, capsys, batch_size, mesh
):
    loss, right, count = np.asarray(
        functions.score(params, EXTRA, whole_split(records)), np.float64
    ).sum(0)
    assert 60 <= count <= 66
    mesh = tiny.mesh_of(mesh)
    evaluator = MaskedImageEvaluator(
        records, VIEWS, name="held_out", batch_size=batch_size, mesh=mesh
    )
    with jax.set_mesh(mesh):
        found = evaluator.evaluate(functions, params, EXTRA, 3)
    np.testing.assert_allclose(found["mim_loss"], loss / count, rtol=1e-5)
    assert found["mim_accuracy"] == right / count
    assert f"held_out at step 3: 11 images, {int(count)} hidden patches" in capsys.readouterr().out


def test_predictions_stand_at_hidden_patches_only(records, functions, params):
    batch = whole_split(records)
    codes, predicted = np.moveaxis(np.asarray(functions.predict(params, EXTRA, batch)), 1, 0)
    hidden = (batch["masked_positions"][:, :, None] == np.arange(16)).any(1)
    grey = (
        batch["tokenizer_image"].mean(-1).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)
        / 255
    )
    np.testing.assert_array_equal(codes, np.clip(grey * 4, 0, 3).astype(int))
    np.testing.assert_array_equal(predicted[~hidden], codes[~hidden])
    _, right, count = np.asarray(functions.score(params, EXTRA, batch)).sum(0)
    assert (predicted[hidden] == codes[hidden]).sum() == right < count


def test_padding_has_no_hidden_patch(records):
    batch = empty_batch(EvalMaskedImages(records, VIEWS).columns, 2)
    assert (batch["masked_positions"] == -1).all() and not batch["valid"].any()


def test_broken_parameters_and_arguments_are_named(records, functions, params):
    mesh = tiny.mesh_of((4, 1, 1))
    broken = {**params, "mim_head": {**params["mim_head"], "bias": np.full(4, np.nan, np.float32)}}
    evaluator = MaskedImageEvaluator(records, VIEWS, name="held_out", batch_size=8, mesh=mesh)
    with (
        jax.set_mesh(mesh),
        pytest.raises(RuntimeError, match="evaluator 'held_out' failed at step 3: the loss is nan"),
    ):
        evaluator.evaluate(functions, broken, EXTRA, 3)
    with pytest.raises(
        ValueError, match="'held_out': batch_size=6 does not divide over 4 batch shards"
    ):
        MaskedImageEvaluator(records, VIEWS, name="held_out", batch_size=6, mesh=mesh)
