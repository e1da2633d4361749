"""Alignment of the words of a text with the patches of an image by optimal transport.

Source: ViLT (arXiv 2102.03334), section 3.2; IPOT (arXiv 1802.04307). Official
`cost_matrix_cosine`, `ipot` and `optimal_transport_dist`, after UNITER's.

Words are M places of a text, patches N places of an image; a mask is False on padding.
"""

import jax
import jax.numpy as jnp

EPSILON = 1e-5  # least length that a vector is divided by
FORBIDDEN = 1e4  # added to what a place of padding is divided by


def transport_distance(
    words: jax.Array,
    patches: jax.Array,
    word_mask: jax.Array,
    patch_mask: jax.Array,
    *,
    beta: float = 0.5,
    iterations: int = 50,
) -> jax.Array:
    """How far words are from patches: the cost of the plan that moves one onto the other.

    The plan has no gradient, the cost has.

    Args:
        words: [B, M, D].
        patches: [B, N, D].
        word_mask: [B, M] bool.
        patch_mask: [B, N] bool.
        beta: see `transport_plan`.
        iterations: see `transport_plan`.

    Returns:
        [B] float32; 0 where there are no words, or no patches.
    """
    cost = cosine_costs(words, patches, word_mask, patch_mask)
    plan = transport_plan(
        jax.lax.stop_gradient(cost), word_mask, patch_mask, beta=beta, iterations=iterations
    )
    return jnp.einsum("bmn,bnm->b", cost, jax.lax.stop_gradient(plan))


def cosine_costs(
    words: jax.Array, patches: jax.Array, word_mask: jax.Array, patch_mask: jax.Array
) -> jax.Array:
    """1 - cosine of every word and patch: [B, M, N] float32, 0 on padding; arguments as of
    `transport_distance`.
    """
    cosines = jnp.einsum("bmd,bnd->bmn", _unit(words), _unit(patches))
    return jnp.where(word_mask[:, :, None] & patch_mask[:, None], 1.0 - cosines, 0.0)


def transport_plan(
    cost: jax.Array,
    word_mask: jax.Array,
    patch_mask: jax.Array,
    *,
    beta: float = 0.5,
    iterations: int = 50,
) -> jax.Array:
    """How much of each word is moved onto each patch, by inexact proximal point iterations.

    Args:
        cost: [B, M, N] float32, of `cosine_costs`.
        word_mask: [B, M] bool.
        patch_mask: [B, N] bool.
        beta: how much a step may change; smaller ones follow the costs more closely.
        iterations: how many steps.

    Returns:
        [B, N, M] float32, 0 on padding. Words, and patches, weigh the same and 1 together.
    """
    joint = patch_mask[:, :, None] & word_mask[:, None]
    num_words, num_patches = (
        jnp.maximum(mask.sum(axis=1, keepdims=True), 1).astype(jnp.float32)
        for mask in (word_mask, patch_mask)
    )
    word_padding, patch_padding = (
        FORBIDDEN * ~mask.astype(bool) for mask in (word_mask, patch_mask)
    )
    kernel = jnp.where(joint, jnp.exp(-cost.swapaxes(1, 2) / beta), 0.0)

    def step(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple, None]:
        plan, sigma = state
        moved = kernel * plan
        delta = 1.0 / (num_patches * jnp.einsum("bnm,bm->bn", moved, sigma) + patch_padding)
        sigma = 1.0 / (num_words * jnp.einsum("bn,bnm->bm", delta, moved) + word_padding)
        return (delta[:, :, None] * moved * sigma[:, None], sigma), None

    first = joint.astype(jnp.float32), jnp.where(word_mask, 1.0 / num_words, 0.0)
    plan, _ = jax.lax.scan(step, first, None, length=iterations)[0]
    return jnp.where(joint, plan, 0.0)


def _unit(x: jax.Array) -> jax.Array:
    """[..., D] divided by its length, in float32."""
    x = x.astype(jnp.float32)
    square = jnp.square(x).sum(-1, keepdims=True)
    # The root of nothing has no slope.
    length = jnp.sqrt(jnp.maximum(square, EPSILON**2))
    return x / length
