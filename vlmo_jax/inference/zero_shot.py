"""Classification by texts: which label's vector is nearest to an image's.

Source: CLIP, "Learning Transferable Visual Models From Natural Language Supervision",
arXiv 2103.00020, section 3.1.
"""

from collections.abc import Sequence

import numpy as np

from vlmo_jax.commands.endings import UserError


class LabelsError(UserError, ValueError):
    """Labels or templates that make no texts."""


def fill_templates(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """The texts of all labels: those of the first in all templates, then those of the second.

    Raises:
        LabelsError: there is none, or a template has no place for the label.
    """
    if isinstance(labels, str) or not len(labels):
        raise LabelsError(f"labels={labels!r}: give a list with at least one label")
    if isinstance(templates, str) or not len(templates):
        raise LabelsError(f"templates={templates!r}: give a list, such as ['a photo of {{}}']")
    for template in templates:
        if "{}" not in template:
            raise LabelsError(
                f"template {template!r} has no place for the label; write {{}} where it goes"
            )
    return [template.replace("{}", label) for label in labels for template in templates]


def average(vectors: np.ndarray, num_labels: int) -> np.ndarray:
    """One vector a label.

    Args:
        vectors: float [L * templates, D] of length 1, in the order of `fill_templates`.
        num_labels: L.

    Returns:
        float64 [L, D] of length 1.
    """
    means = vectors.reshape(num_labels, -1, vectors.shape[1]).astype(np.float64).mean(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


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
