"""VSE-infinity: order and padding of regions change nothing, and what is counted is there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import small_vse
from vlmo_jax.layers.generalized_pooling import GeneralizedPooling
from vlmo_jax.layers.regions import Regions
from vlmo_jax.models.build import MODELS, abstract_model, abstract_params, count_params, model_maker
from vlmo_jax.models.vse_flops import pass_flops


def regions(features, mask):
    return Regions(jnp.asarray(features), None, jnp.asarray(mask))


@pytest.mark.parametrize("pooling", ["gpo", "mean"])
def test_order_and_padding_of_regions_change_nothing(pooling):
    config = small_vse.config(model=dict(pooling=pooling))
    model = small_vse.model(config, small_vse.params(config))
    batch = small_vse.make_batch()
    wanted = model.retrieval_image(regions(batch["regions"], batch["region_mask"]))
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=-1), 1, atol=1e-5)
    order = np.random.default_rng(0).permutation(small_vse.R)
    noise = np.where(batch["region_mask"][..., None], batch["regions"], 7.0)
    turned = regions(noise[:, order], batch["region_mask"][:, order])
    np.testing.assert_allclose(model.retrieval_image(turned), wanted, atol=1e-5)
    more = [(0, 0), (0, 3), (0, 0)]
    padded = regions(np.pad(batch["regions"], more), np.pad(batch["region_mask"], more[:2]))
    np.testing.assert_allclose(model.retrieval_image(padded), wanted, atol=1e-5)


def test_a_row_without_regions_is_finite():
    config = small_vse.config()
    model = small_vse.model(config, small_vse.params(config))
    empty = regions(np.zeros((2, 4, 8), np.float32), np.zeros((2, 4), bool))
    assert np.isfinite(model.retrieval_image(empty)).all()


def test_weights_of_each_number_are_those_of_the_examples_alone():
    graphdef, abstract = abstract_model(lambda rngs: GeneralizedPooling(6, 5, rngs=rngs))
    rng = np.random.default_rng(0)
    values = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape), jnp.float32), abstract)
    pool = nnx.merge(graphdef, values)
    whole = np.asarray(pool.weights(7))
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-5)
    for most in (1, 4):
        np.testing.assert_allclose(whole[most - 1, :most], pool.weights(most)[-1], atol=1e-6)
    assert not np.triu(whole, 1).any()


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("heads", [("retrieval",), ("retrieval", "vqa")])
def test_parameters_are_counted(images, heads):
    config = small_vse.config(images=images, model=dict(heads=heads))
    found = count_params(abstract_params(model_maker(config.model)))
    assert MODELS["vse_infinity"].num_params(dict(config.model)) == found


def test_flops_are_those_of_the_compiled_dense_layers():
    fields = dict(small_vse.config(model=dict(pooling="mean")).model)
    more = {**fields, "region_width": 2 * fields["region_width"]}
    embed, hidden, places = fields["embed_width"], fields["region_mlp"], fields["num_regions"]
    added = pass_flops(more).image - pass_flops(fields).image
    assert added == 2 * places * fields["region_width"] * (embed + hidden)
    assert pass_flops(fields).answer > pass_flops(fields).image + pass_flops(fields).text


def test_answers_come_from_both_vectors():
    config = small_vse.config(images=True, model=dict(heads=("retrieval", "vqa"), num_answers=5))
    model = small_vse.model(config, small_vse.params(config))
    batch = small_vse.make_batch(images=True)
    image = jnp.asarray(batch["image"], jnp.float32) / 255
    texts = jnp.asarray(batch["token_ids"]), jnp.asarray(batch["token_mask"])
    logits = model.answer(image, *texts)
    assert logits.shape == (small_vse.BATCH, 5)
    assert np.abs(model.answer(image[::-1], *texts) - logits).max() > 1e-3


def test_no_gradient_reaches_running_statistics():
    config = small_vse.config()
    values, batch = small_vse.params(config), small_vse.make_batch()
    seen = regions(batch["regions"], batch["region_mask"])
    loss = lambda v: (small_vse.model(config, v).retrieval_image(seen) ** 3).sum()
    norm = jax.jit(jax.grad(loss))(values)["itc"]["image"]["mlp"]["norm"]
    assert np.abs(norm["scale"]).max() > 1e-3
    assert not np.any(norm["running_mean"]) and not np.any(norm["running_variance"])
