"""Objectives of a discrete VAE: reconstruction, even use of its codes, and the step between encoder
and decoder.

Legend: B images, S side in pixels, h x w places of the grid, V codes.
"""

import jax
import jax.numpy as jnp


def squared_error(image: jax.Array, reconstruction: jax.Array) -> jax.Array:
    """Mean squared error of images [B, S, S, 3], one number each: [B] float32."""
    return jnp.square(image.astype(jnp.float32) - reconstruction.astype(jnp.float32)).mean(
        (1, 2, 3)
    )


def peak_signal_to_noise(error: jax.Array) -> jax.Array:
    """PSNR in decibels of images whose pixels are in [0, 1] and whose mean squared errors are
    `error`, of any shape.
    """
    return -10.0 * jnp.log10(jnp.maximum(error, 1e-10))


def choose_codes(logits: jax.Array, temperature: float, key: jax.Array | None = None) -> jax.Array:
    """One-hot codes whose gradient is that of a softmax: the straight-through estimator.

    Args:
        logits: [B, h, w, V].
        temperature: of the softmax, more than 0; the higher it is, the more codes a place's
            gradient reaches.
        key: random key of Gumbel noise, with which codes are drawn from the encoder's distribution;
            None: the likeliest.

    Returns:
        [B, h, w, V] float32 of 0 and 1.

    Source: Bengio et al., arXiv 1308.3432; with noise the straight-through Gumbel-softmax of Jang
    et al., arXiv 1611.01144, section 2.2.
    """
    logits = logits.astype(jnp.float32)
    if key is not None:
        logits = logits + jax.random.gumbel(key, logits.shape)
    soft = jax.nn.softmax(logits / temperature)
    chosen = jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1])
    return chosen + soft - jax.lax.stop_gradient(soft)


def code_entropies(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How evenly codes are used, and how sure the encoder is of each.

    Args:
        logits: [B, h, w, V].

    Returns:
        Two scalars of [0, log V], float32: the entropy of the mean distribution over all places,
        which is log V if all codes are used equally, and the mean entropy of a place, which is 0 if
        the encoder is certain everywhere. Their difference is the information that a code carries
        about its place.

    Source: Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation",
    arXiv 2310.05737, section 3.1.
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    probabilities = jnp.exp(log_probabilities)
    mean = probabilities.mean((0, 1, 2))
    return _entropy(mean), -(probabilities * log_probabilities).sum(-1).mean()


def _entropy(probabilities):
    return -jax.scipy.special.xlogy(probabilities, jnp.maximum(probabilities, 1e-30)).sum()


def code_counts(codes: jax.Array, vocab_size: int) -> jax.Array:
    """How often each code occurs in `codes`, int of any shape: [V] int32."""
    return jnp.zeros(vocab_size, jnp.int32).at[codes.reshape(-1)].add(1)


def perplexity(counts: jax.Array) -> jax.Array:
    """exp(entropy) of the distribution that `counts` [V] give: so many codes, used equally often,
    would be as diverse.
    """
    return jnp.exp(_entropy(counts / jnp.maximum(counts.sum(), 1)))
