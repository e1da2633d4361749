"""A dual encoder with a matcher beside it: each does its own part, and neither the other's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models import twin_vlmo
from vlmo_jax.models.build import (
    MODELS,
    abstract_model,
    check_model,
    count_params,
    model_maker,
    random_params,
)

FIELDS = {
    **tiny.config().model,
    "kind": "twin_vlmo",
    "heads": twin_vlmo.HEADS,
    "position": "relative",
}


@pytest.fixture(scope="module")
def params():
    return random_params(model_maker(FIELDS), 0)


@pytest.fixture(scope="module")
def inputs():
    batch = tiny.make_batch(3)
    image = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    return image, batch["token_ids"], batch["token_mask"]


def merged(params):
    return nnx.merge(abstract_model(model_maker(FIELDS))[0], params)


def test_vectors_come_from_the_one_and_matches_from_the_other(params, inputs):
    image, ids, mask = inputs

    @jax.jit
    def ask(params):
        model = merged(params)
        images, texts = model.encode_images(image), model.encode_texts(ids, mask)
        alone = model.retrieval_image(image), model.retrieval_text(ids, mask)
        scores = model.match_all(images.states, texts.states, mask)
        return (images.feature, texts.feature), alone, scores, model.pair_logits(image, ids, mask)

    vectors, alone, scores, logits = ask(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), vectors, alone)
    np.testing.assert_allclose(jnp.diagonal(scores), logits[:, 1] - logits[:, 0], atol=1e-5)
    other = {**params, "dual": jax.tree.map(lambda x: x + 0.1, params["dual"])}
    vectors_of_other, _, same_scores, _ = ask(other)
    np.testing.assert_array_equal(same_scores, scores)
    assert np.abs(vectors_of_other[0] - vectors[0]).max() > 1e-3


def test_parameters_are_counted(params):
    assert MODELS["twin_vlmo"].num_params(FIELDS) == count_params(params)


def test_other_heads_are_refused():
    with pytest.raises(ConfigError, match="a twin_vlmo is a dual encoder and a matcher"):
        check_model({**FIELDS, "heads": ("retrieval", "vqa")}, (1, 1, 1))
