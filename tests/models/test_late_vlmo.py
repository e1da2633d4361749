"""Modalities that meet in the last block: all pairs at once give what each pair gives alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import check_model

FIELDS = {
    "relative": dict(kind="late_vlmo", position="relative", layer_scale=0.1, num_upper=2),
    "absolute": dict(kind="late_vlmo", position="absolute", layer_scale=0.0),
}


@pytest.fixture(scope="module", params=FIELDS)
def model(request):
    fields = FIELDS[request.param]
    return tiny.model(tiny.params(**fields), **fields)


@pytest.fixture(scope="module")
def inputs():
    batch = tiny.make_batch(3)
    image = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1
    return image, batch["token_ids"], batch["token_mask"]


def test_all_pairs_are_scored_as_each_alone(model, inputs):
    image, ids, mask = inputs
    images, texts = model.encode_images(image), model.encode_texts(ids, mask)
    found = model.match_all(images.states, texts.states, mask)
    pairs = [np.repeat(x, len(image), axis=0) for x in (ids, mask)]
    logits = model.pair_logits(jnp.tile(image, (len(ids), 1, 1, 1)), *pairs)
    alone = (logits[:, 1] - logits[:, 0]).reshape(len(ids), len(image))
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-4)
    assert np.ptp(found, axis=0).min() > 0.01 and np.ptp(found, axis=1).min() > 0.01


def test_vectors_are_those_of_the_dual_encoder(model, inputs):
    image, ids, mask = inputs
    images, texts = model.encode_images(image), model.encode_texts(ids, mask)
    np.testing.assert_allclose(images.feature, model.retrieval_image(image), atol=1e-5)
    np.testing.assert_allclose(texts.feature, model.retrieval_text(ids, mask), atol=1e-5)


def test_modalities_meet_in_the_last_block_alone(model, inputs):
    image, ids, mask = inputs

    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(image, text):
        return jnp.sin(model.encode_fused(text, mask, image)).sum()

    embedded = model.embed_image(image), model.embed_text(ids)
    assert all(np.abs(slope).max() > 1e-3 for slope in slopes(*embedded)[::-1])
    states = model.encode_images(image).states
    np.testing.assert_array_equal(states, model.encode_images(image).states)
    padded = np.where(mask, ids, 1)  # what stands in the padding is seen by nobody
    one, other = (model.encode_texts(x, mask).states for x in (ids, padded))
    np.testing.assert_allclose(one[mask], other[mask], atol=1e-6)
    scores = [model.match_all(states, text, mask) for text in (one, other)]
    np.testing.assert_allclose(*scores, atol=1e-5)


@pytest.mark.parametrize(
    "fields, reason",
    [
        (dict(num_upper=3), "num_upper=3 must be at least 1 and less than"),
        (dict(heads=("caption",)), "writes captions"),
    ],
)
def test_what_cannot_be_is_refused(fields, reason):
    model = {**tiny.config().model, "kind": "late_vlmo", **fields}
    with pytest.raises(ConfigError, match=reason):
        check_model(model, (1, 1, 1))
