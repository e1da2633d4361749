"""Optimal transport of words onto patches: sums, padding, and what has a gradient."""

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.objectives import word_patch


def case():
    rng = np.random.default_rng(0)
    words, patches = rng.normal(size=(2, 5, 8)), rng.normal(size=(2, 7, 8))
    masks = np.arange(5) < [[5], [2]], np.arange(7) < [[4], [7]]
    return *map(jnp.float32, (words, patches)), *map(jnp.asarray, masks)


def test_words_and_patches_weigh_the_same_and_padding_nothing():
    *_, word_mask, patch_mask = given = case()
    cost = word_patch.cosine_costs(*given)
    plan = word_patch.transport_plan(cost, word_mask, patch_mask, iterations=300)
    for mask, axis in ((word_mask, 1), (patch_mask, 2)):
        shares = np.where(mask, 1.0 / mask.sum(1, keepdims=True), 0.0)
        np.testing.assert_allclose(plan.sum(axis), shares, atol=2e-3)


def test_the_same_vectors_are_no_way_apart_and_opposite_ones_the_farthest():
    x = jnp.eye(4, 8)[None]
    mask = jnp.ones((1, 4), bool)
    near = word_patch.transport_distance(x, x, mask, mask)[0]
    far = word_patch.transport_distance(x, -x.sum(1, keepdims=True) + 0 * x, mask, mask)[0]
    assert near < 0.02 and far > 1.4


def test_padding_changes_nothing():
    words, patches, word_mask, patch_mask = case()
    whole = word_patch.transport_distance(words, patches, word_mask, patch_mask)
    one = word_patch.transport_distance(
        words[1:, :2], patches[1:], word_mask[1:, :2], patch_mask[1:]
    )
    np.testing.assert_allclose(one[0], whole[1], rtol=1e-5)


def test_a_text_without_words_is_no_way_away():
    words, patches, _, patch_mask = case()
    none = jnp.zeros((2, 5), bool)
    distance = lambda w: word_patch.transport_distance(w, patches, none, patch_mask).sum()
    value, gradient = jax.value_and_grad(distance)(words)
    assert value == 0 and not np.asarray(gradient).any()


def test_the_plan_has_no_gradient():
    words, patches, *masks = case()
    cost = word_patch.cosine_costs(words, patches, *masks)
    plan = word_patch.transport_plan(cost, *masks)
    held = lambda w: jnp.einsum("bmn,bnm->", word_patch.cosine_costs(w, patches, *masks), plan)
    whole = lambda w: word_patch.transport_distance(w, patches, *masks).sum()
    np.testing.assert_allclose(jax.grad(whole)(words), jax.grad(held)(words), atol=1e-6)
