"""A BERT with fusion layers gives what ALBEF's text encoder does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.paths import DATA
from vlmo_jax.interop.places import empty_places, fill_places, wrong_shapes
from vlmo_jax.interop.whole_bert import bert_places
from vlmo_jax.layers.bert import Bert
from vlmo_jax.models.build import abstract_model

PREFIX = "text_encoder.bert."
PLACES = bert_places(PREFIX, (), depth=1, num_heads=4, fusion_depth=2)


def make(rngs):
    return Bert(
        vocab_size=200,
        width=32,
        depth=1,
        num_heads=4,
        mlp_dim=64,
        positions=16,
        fusion_depth=2,
        rngs=rngs,
    )


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "siblings" / "albef.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def official(reference):
    return {name: reference[f"param/{name}"] for name in PLACES}


@pytest.fixture(scope="module")
def bert(official):
    graphdef, _ = abstract_model(make)
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, fill_places(official, PLACES)))


def test_every_tensor_has_a_place_and_the_way_back_is_exact(official):
    params = nnx.to_pure_dict(abstract_model(make)[1])
    assert not wrong_shapes(official, PLACES, params)
    back = empty_places(fill_places(official, PLACES), PLACES)
    assert set(back) == set(official)
    for name, tensor in official.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_states_are_those_of_the_official_code(reference, bert):
    mask = reference["attention_mask"] > 0
    with jax.default_matmul_precision("highest"):
        text = bert(reference["input_ids"], mask)
        fused = bert.fuse(text, mask, reference["image_embeds"])
    np.testing.assert_allclose(text, reference["text_embeds"], atol=2e-5)
    np.testing.assert_allclose(fused, reference["fusion_pos"], atol=2e-5)


def test_segments_choose_the_row_that_is_added(reference, bert):
    ids, mask = reference["input_ids"], reference["attention_mask"] > 0
    first = bert(ids, mask)
    np.testing.assert_allclose(bert(ids, mask, segments=jnp.zeros_like(ids)), first, atol=1e-6)
    other = bert(ids, mask, segments=jnp.ones_like(ids))
    assert jnp.abs(other - first).max() > 1e-3
