"""Vectors, matches and answers of an ALBEF."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny, tiny_albef
from vlmo_jax.tasks import protocols

HEADS = ("itc", "itm", "mlm", "vqa")


@pytest.fixture(scope="module")
def config():
    return tiny_albef.config(model={"heads": HEADS, "num_answers": 7, "dropout_rate": 0.2})


@pytest.fixture(scope="module")
def model(config):
    return tiny_albef.model(tiny_albef.params(config), config)


@pytest.fixture(scope="module")
def batch():
    rows = tiny.make_batch(4)
    image = jnp.asarray(rows["image"] / 255.0, jnp.float32)
    return image, rows["token_ids"], rows["token_mask"]


def test_it_serves_what_asks_for_its_methods(model):
    assert isinstance(model, protocols.LearnsToMatch)
    assert isinstance(model, protocols.AnswersQuestions)
    assert isinstance(model, protocols.AlignsAndFuses)
    assert not isinstance(model, protocols.PretrainsOnPairs)


def test_vectors_have_length_one_and_matching_starts_from_the_same_states(model, batch):
    image, ids, mask = batch
    states, text = model.encode_image(image), model.encode_text(ids, mask)
    np.testing.assert_allclose(model.retrieval_image(image), model.image_vector(states), rtol=1e-5)
    np.testing.assert_allclose(
        jnp.linalg.norm(model.retrieval_text(ids, mask), axis=1), 1, rtol=1e-5
    )
    fused = model.fuse(text, mask, states)[:, 0]
    np.testing.assert_allclose(
        model.pair_logits(*batch), model.match_logits(fused), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(model.answer(*batch), model.vqa_head(fused), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.retrieval_scale(), np.log(1 / 0.2), rtol=1e-5)


def test_padding_changes_nothing_and_the_image_does(model, batch):
    image, ids, mask = batch
    other = np.where(mask, ids, 7)
    np.testing.assert_allclose(
        model.pair_logits(image, other, mask), model.pair_logits(*batch), atol=1e-5
    )
    assert (
        jnp.abs(model.pair_logits(image[::-1], ids, mask) - model.pair_logits(*batch)).max() > 0.01
    )


def test_dropout_draws_by_its_key(model, batch):
    first, again, other = (model.pair_logits(*batch, jax.random.key(n)) for n in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert jnp.abs(first - other).max() > 1e-3
