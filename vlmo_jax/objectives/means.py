"""Losses as sums and counts.

A batch may go through the model in parts. A mean over the whole batch is then the sum of its parts'
sums, each divided by the count of the whole: tasks give sums and counts, and never divide.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Scalars = Mapping[str, Any]


def weighted_total(sums: Scalars, counts: Scalars, weights: Mapping[str, float]) -> jax.Array:
    """The part's share of the whole batch's loss.

    Args:
        sums: name -> sum over the part.
        counts: name -> what that sum is divided by, of the whole batch.
        weights: name of a loss -> its weight in the total.

    Returns:
        Scalar float32.
    """
    total = jnp.zeros((), jnp.float32)
    for name, weight in weights.items():
        total = total + weight * (sums[name] / counts[name])
    return total


def shares(sums: Scalars, counts: Scalars) -> dict[str, Any]:
    """Each sum, or tree of sums, over the count of the whole batch: what is added up over the parts
    is the mean.
    """

    def share(name: str, sums: Any) -> Any:
        return jax.tree.map(lambda total: jnp.asarray(total / counts[name]), sums)

    return {name: share(name, total) for name, total in sums.items()}
