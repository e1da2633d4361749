"""VLMos that lack shared attention, or vision-language experts, beside the one that has them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import (
    MODELS,
    abstract_model,
    abstract_params,
    check_model,
    count_params,
    model_maker,
    random_params,
)

TWO_HEADS = ("retrieval", "itm", "mlm")


def fields(kind, **changes):
    return {**tiny.config().model.to_dict(), "kind": kind, **changes}


def arrays():
    batch = tiny.make_batch(3)
    image, ids, mask = (jnp.asarray(batch[n]) for n in ("image", "token_ids", "token_mask"))
    return image / 127.5 - 1, ids, mask


def rebuilt(kind, params, **changes):
    return nnx.merge(abstract_model(model_maker(fields(kind, **changes)))[0], params)


def test_separate_attention_with_equal_weights_is_the_shared_one():
    params = tiny.params()
    twice = jax.tree.map(lambda leaf: leaf, params)
    for stack in ("lower", "upper"):
        shared = twice["transformer"][stack].pop("attention")
        both = jax.tree.map(lambda leaf: np.stack([leaf, leaf], axis=1), shared)
        twice["transformer"][stack]["attention"] = {"stacked": both}
    shared, separate = tiny.model(params), rebuilt("separate_vlmo", twice)
    image, ids, mask = arrays()
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)
    close(separate.pair_logits(image, ids, mask), shared.pair_logits(image, ids, mask))
    for one, other in (
        (separate.image_features(image), shared.image_features(image)),
        (separate.text_features(ids, mask), shared.text_features(ids, mask)),
    ):
        jax.tree.map(close, one, other)


def test_an_image_gives_no_gradient_to_the_attention_of_texts():
    params = random_params(model_maker(fields("separate_vlmo")), 0)
    image, _, _ = arrays()
    loss = lambda p: rebuilt("separate_vlmo", p).retrieval_image(image)[:, 0].sum()
    found = jax.grad(loss)(params)["transformer"]["lower"]["attention"]["stacked"]["qkv"]
    assert np.abs(found[:, 0]).max() > 0 and np.abs(found[:, 1]).max() == 0


def test_two_experts_that_are_equal_do_what_one_for_both_does():
    params = tiny.params(heads=TWO_HEADS)
    experts = params["transformer"]["upper"]["experts"]["stacked"]
    alike = jax.tree.map(lambda leaf: np.stack([leaf[:, 2]] * 2, axis=1), experts)
    whole = tiny.model(params, heads=TWO_HEADS)
    lacking = jax.tree.map(lambda leaf: leaf, params)
    lacking["transformer"]["upper"]["experts"]["stacked"] = alike
    two = rebuilt("two_expert_vlmo", lacking, heads=TWO_HEADS)
    image, ids, mask = arrays()
    np.testing.assert_allclose(
        two.pair_logits(image, ids, mask), whole.pair_logits(image, ids, mask), atol=2e-5
    )
    read = jnp.asarray([[0, 2]] * 3)
    states = two.encode_fused(two.embed_text(ids), mask, two.embed_image(image))
    some = two.encode_fused(two.embed_text(ids), mask, two.embed_image(image), read=read)
    np.testing.assert_allclose(some, states[:, jnp.asarray([0, 2])], atol=1e-5)


@pytest.mark.parametrize(
    "kind, heads", [("separate_vlmo", ("itc", "itm", "mlm")), ("two_expert_vlmo", TWO_HEADS)]
)
def test_counts_are_exact_and_the_models_are_allowed(kind, heads):
    model = fields(kind, heads=heads)
    check_model(model, (1, 1, 1))
    counted = count_params(abstract_params(model_maker(model)))
    assert MODELS[kind].num_params(model) == counted


def test_a_second_branch_without_its_expert_is_refused():
    with pytest.raises(ConfigError, match="use 'retrieval' in the place of 'itc'"):
        check_model(fields("two_expert_vlmo"), (1, 1, 1))


@pytest.mark.parametrize("kind", ["separate_vlmo", "two_expert_vlmo"])
def test_captions_by_blocks_that_cannot_be_cached_are_refused(kind):
    with pytest.raises(ConfigError, match="use kind 'vlmo'"):
        check_model(fields(kind, heads=("retrieval", "caption")), (1, 1, 1))
