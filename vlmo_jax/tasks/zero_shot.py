"""Classification by texts: which label's vector is nearest to an image's.

Source: CLIP, "Learning Transferable Visual Models From Natural Language Supervision",
arXiv 2103.00020, section 3.1.
"""

from collections.abc import Sequence

import numpy as np


def average(vectors: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """One vector a label.

    Args:
        vectors: float [texts, D] of length 1, those of a label beside each other.
        counts: [L], how many texts each label has, all of them at least 1.

    Returns:
        float64 [L, D] of length 1.
    """
    starts = np.cumsum([0, *counts])[:-1]
    sums = np.add.reduceat(vectors.astype(np.float64), starts, axis=0)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def probabilities(images: np.ndarray, prototypes: np.ndarray, scale: float) -> np.ndarray:
    """The softmax of scaled similarities, float32 [N, L].

    Args:
        images: float [N, D] of length 1.
        prototypes: float [L, D] of length 1.
        scale: of the contrast.
    """
    logits = scale * images.astype(np.float64) @ prototypes.T
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32)
