"""What gradients summed over chips in bfloat16 cost against float64: the table in SCALING.md.

python -m docs.gradient_sums
"""

import functools

import jax.numpy as jnp
import numpy as np

VALUES = 10_000


def rounded(x: np.ndarray) -> np.ndarray:
    """The nearest bfloat16, as float32."""
    return x.astype(jnp.bfloat16).astype(np.float32)


def ring(parts: np.ndarray) -> np.ndarray:
    """Sums [chips, values], rounded at each hop."""
    return functools.reduce(lambda total, part: rounded(total + part), rounded(parts))


def torus(parts: np.ndarray) -> np.ndarray:
    """Rings along one axis of a square, then a ring of their sums."""
    return ring(np.stack([ring(row) for row in np.split(parts, round(len(parts) ** 0.5))]))


def tree(parts: np.ndarray) -> np.ndarray:
    """Sums of pairs, then of pairs of these, each rounded."""
    parts = rounded(parts)
    while len(parts) > 1:
        parts = rounded(parts[0::2] + parts[1::2])
    return parts[0]


def once(parts: np.ndarray) -> np.ndarray:
    """Each part rounded, and added in float64."""
    return rounded(parts).sum(0, dtype=np.float64)


def in_float32(parts: np.ndarray) -> np.ndarray:
    """A ring in float32."""
    return functools.reduce(np.add, parts)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    ways = (ring, torus, tree, once, in_float32)
    print("signal, chips, " + ", ".join(way.__name__ for way in ways) + ", noise itself")
    for signal in (0.0, 0.1, 1.0):
        for chips in (16, 64, 256, 1024):
            common = signal * rng.normal(size=VALUES)
            parts = (common + rng.normal(size=(chips, VALUES))).astype(np.float32)
            exact = parts.astype(np.float64).sum(0)
            size = np.sqrt((exact**2).mean())
            errors = [np.sqrt(((way(parts) - exact) ** 2).mean()) / size for way in ways]
            print(signal, chips, *(f"{e:.1e}" for e in errors), f"{np.sqrt(chips) / size:.2g}")
