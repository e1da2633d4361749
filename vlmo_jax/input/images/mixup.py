"""Mixup and CutMix: each image of a batch is mixed with its partner, and so are their targets.

The partner of image i of B is image B - 1 - i. Nothing is drawn here.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Box(NamedTuple):
    """Pixels top <= y < bottom, left <= x < right."""

    top: int
    bottom: int
    left: int
    right: int


class Mix(NamedTuple):
    """How an image is mixed with its partner.

    Attributes:
        share: of the image itself, in [0, 1]; the partner has the rest.
        box: what the partner's pixels take the place of; None: all pixels are blended by `share`.
    """

    share: float
    box: Box | None = None


def cut_box(
    size: tuple[int, int], share: float, centre: tuple[int, int], *, whole_odd_sides: bool = True
) -> Box:
    """The box that is cut out of an image, as far as it lies inside.

    Args:
        size: height and width of the image.
        share: of the image that should stay, in [0, 1].
        centre: y and x.
        whole_odd_sides: whether a side that is an odd number of pixels long keeps the last of them,
            as in timm 1.0; not in timm 0.3.2 to 0.4.12, which BEiT's results are made with.

    Source: timm, timm.data.mixup.rand_bbox.
    """
    spans = []
    for length, middle in zip(size, centre, strict=True):
        side = int(length * np.sqrt(1 - share))
        end = middle + (side + 1 if whole_odd_sides else side) // 2
        spans += [max(middle - side // 2, 0), min(end, length)]
    return Box(*spans)


def share_outside(box: Box, size: tuple[int, int]) -> float:
    """The share of an image that lies outside a box, in [0, 1]: what CutMix corrects `Mix.share`
    to.

    Args:
        box: inside the image.
        size: height and width of the image.
    """
    return 1.0 - (box.bottom - box.top) * (box.right - box.left) / (size[0] * size[1])


def smoothed_targets(labels: np.ndarray, num_classes: int, smoothing: float) -> np.ndarray:
    """Shares of the classes: 1 - smoothing for the label, and `smoothing` spread evenly over all.

    Args:
        labels: [B], integers in [0, K).
        num_classes: K.
        smoothing: in [0, 1).

    Returns:
        [B, K] float32.
    """
    one_hot = np.eye(num_classes)[labels]
    return (one_hot * (1 - smoothing) + smoothing / num_classes).astype(np.float32)


def mix_batch(
    images: np.ndarray, targets: np.ndarray, mixes: Sequence[Mix]
) -> tuple[np.ndarray, np.ndarray]:
    """Mixes each image and its target with those of its partner, which are taken unmixed.

    Args:
        images: [B, H, W, C] floats.
        targets: [B, K] floats, of `smoothed_targets`.
        mixes: one an image.

    Returns:
        New images and targets, of the same shapes and types.

    Raises:
        ValueError: there are more or fewer mixes than images.

    Source: timm, timm.data.mixup.Mixup, in its modes batch, pair and elem.
    """
    if len(mixes) != len(images):
        raise ValueError(f"{len(mixes)} mixes for {len(images)} images")
    mixed = np.empty_like(images)
    for number, (share, box) in enumerate(mixes):
        image, partner = images[number], images[-1 - number]
        if box is None:
            mixed[number] = image * share + partner * (1 - share)
        else:
            inside = slice(box.top, box.bottom), slice(box.left, box.right)
            mixed[number] = image
            mixed[number][inside] = partner[inside]
    shares = np.array([mix.share for mix in mixes], targets.dtype)[:, None]
    return mixed, targets * shares + targets[::-1] * (1 - shares)
