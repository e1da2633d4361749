"""Pictures that are nearly the same count as one."""

from collections.abc import Sequence

import numpy as np

from vlmo_jax.search.questions import Hit

# Cosine above which two pictures are one: a smaller copy, another compression, the next of a burst.
NEARLY_SAME = 0.96


def group(hits: Sequence[Hit], vectors: np.ndarray, most: int) -> list[Hit]:
    """Puts hits behind the best one that they nearly equal.

    Args:
        hits: best first.
        vectors: float32 [hits, D], theirs, of length 1.
        most: groups that are wanted.

    Returns:
        The best of each group, the others in its `duplicates`.
    """
    first: list[int] = []
    others: dict[int, list[int]] = {}
    digests: dict[str, int] = {}
    for number, hit in enumerate(hits):
        near = vectors[first] @ vectors[number] if first else np.zeros(0)
        same = digests.get(hit.picture.digest)
        if same is None and near.size and near.max() >= NEARLY_SAME:
            same = first[int(near.argmax())]
        if same is None:
            if len(first) < most:
                first.append(number)
                digests[hit.picture.digest] = number
        else:
            others.setdefault(same, []).append(number)
    return [
        hits[one]._replace(duplicates=tuple(hits[n].picture for n in others.get(one, ())))
        for one in first
    ]
