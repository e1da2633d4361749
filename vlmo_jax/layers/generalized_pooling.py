"""Generalized pooling (GPO): how much the largest, the second largest, ... value of each feature
counts is learned, for each number of things that are pooled.

Source: Chen et al., "Learning the Best Pooling Strategy for Visual Semantic Embedding", section 4;
woodfrog/vse_infty, lib/modules/aggr/gpo.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.layers.linear import param, per_row

TEMPERATURE = 0.1
_HIDDEN = -10_000.0  # below every feature, and so heavy that a softmax gives it nothing


def sinusoids(length: int, width: int) -> np.ndarray:
    """Positions [length, width] float32 as sines (even columns) and cosines (odd ones)."""
    angles = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * -math.log(1e4) / width)
    table = np.zeros((length, width), np.float32)
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


class GRU(nnx.Module):
    """The parameters and the step of a gated recurrent unit, with the two biases of torch's.

    Args:
        in_features: of the inputs.
        hidden: of the state.
    """

    def __init__(self, in_features: int, hidden: int, *, rngs: nnx.Rngs) -> None:
        uniform = nnx.initializers.uniform(2 / math.sqrt(hidden))
        init = lambda *arguments: uniform(*arguments) - 1 / math.sqrt(hidden)
        self.inputs = param(init, (in_features, 3 * hidden), (None, None), rngs)
        self.states = param(init, (hidden, 3 * hidden), (None, None), rngs)
        self.input_bias = param(init, (3 * hidden,), (None,), rngs)
        self.state_bias = param(init, (3 * hidden,), (None,), rngs)

    def step(self, state: jax.Array, x: jax.Array) -> jax.Array:
        """The next state [..., H] after a state [..., H] and an input [in_features]."""
        from_input = x @ self.inputs[...] + self.input_bias[...]
        from_state = state @ self.states[...]
        from_state = from_state + per_row(self.state_bias[...], from_state)
        reset, update, new = jnp.split(per_row(from_input, from_state), 3, axis=-1)
        state_reset, state_update, state_new = jnp.split(from_state, 3, axis=-1)
        kept = jax.nn.sigmoid(update + state_update)
        new = jnp.tanh(new + jax.nn.sigmoid(reset + state_reset) * state_new)
        return (1 - kept) * new + kept * state


class GeneralizedPooling(nnx.Module):
    """A weighted sum of the values of each feature, sorted from the largest to the smallest.

    The weights depend on how many things there are and on nothing else. So they are computed once
    for each number, not for each example: a GRU goes over the positions forwards, another one
    backwards from the last of so many, the mean of both gives a score a position, and a softmax at
    temperature 0.1 the weights.

    Args:
        position_width: of the sinusoidal positions.
        hidden: of the GRUs.
    """

    def __init__(self, position_width: int = 32, hidden: int = 32, *, rngs: nnx.Rngs) -> None:
        self.position_width, self.hidden = position_width, hidden
        self.forward = GRU(position_width, hidden, rngs=rngs)
        self.backward = GRU(position_width, hidden, rngs=rngs)
        bound = 1 / math.sqrt(hidden)
        init = lambda *arguments: nnx.initializers.uniform(2 * bound)(*arguments) - bound
        self.score = param(init, (hidden,), (None,), rngs)

    def weights(self, most: int) -> jax.Array:
        """The weights of each number of things up to N = `most`: [N, N] float32, row L - 1 those of
        L things, 0 beyond them.
        """
        positions = jnp.asarray(sinusoids(most, self.position_width))
        lengths = jnp.arange(1, most + 1)

        def go_on(state, x):
            state = self.forward.step(state, x)
            return state, state

        def go_back(states, inputs):  # one state a length, which begins at its last position
            x, place = inputs
            states = jnp.where((place < lengths)[:, None], self.backward.step(states, x), 0.0)
            return states, states

        first = jnp.zeros((self.hidden,), jnp.float32)
        _, ahead = jax.lax.scan(go_on, first, positions)
        start = jnp.zeros((most, self.hidden), jnp.float32)
        _, back = jax.lax.scan(go_back, start, (positions, jnp.arange(most)), reverse=True)
        scores = ((ahead[:, None] + back) / 2) @ self.score[...]  # [position, length]
        there = jnp.arange(most)[None] < lengths[:, None]
        scores = jnp.where(there, scores.T, _HIDDEN)
        return jax.nn.softmax(scores / TEMPERATURE, axis=-1)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """Pools features.

        Args:
            x: [B, N, D], above -10,000.
            mask: [B, N] bool, what is there, wherever it stands; at least one in each row.

        Returns:
            [B, D] float32.
        """
        x = jnp.where(mask[..., None], x.astype(jnp.float32), _HIDDEN)
        falling = -jnp.sort(-x, axis=1)
        counts = mask.sum(axis=1)
        there = jnp.arange(x.shape[1])[None] < counts[:, None]
        falling = jnp.where(there[..., None], falling, 0.0)
        weights = jnp.take(self.weights(x.shape[1]), jnp.maximum(counts, 1) - 1, axis=0)
        return jnp.einsum("bn,bnd->bd", weights, falling)


class MeanPooling(nnx.Module):
    """The mean of what is there; arguments as of `GeneralizedPooling`, its rival."""

    def __init__(self, position_width: int = 32, hidden: int = 32, *, rngs: nnx.Rngs) -> None:
        pass

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """[B, N, D] and [B, N] bool -> [B, D] float32."""
        shares = mask / jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
        return jnp.einsum("bn,bnd->bd", shares, x.astype(jnp.float32))


POOLINGS = {"gpo": GeneralizedPooling, "mean": MeanPooling}
