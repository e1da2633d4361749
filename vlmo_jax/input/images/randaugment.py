"""RandAugment with the ten operations of VLMo, none of which changes what a caption says about
colours.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets.images import WHITE

MAX_MAGNITUDE = 10
MAX_OPERATIONS = 100
_APPLY_PROBABILITY = 0.5

# At the greatest magnitude. Translation is in pixels at every image size, as in the official code.
_MAX_SHEAR = 0.3
_MAX_TRANSLATION = 10
_MAX_DEGREES = 30

# An operation takes an image, a strength in [-1, 1] and the colour of what comes in from outside.
_Operation = Callable[[Image.Image, float, tuple[int, int, int]], Image.Image]


def check_randaugment(strength: Sequence[float]) -> None:
    """Raises ConfigError unless `config.data.randaugment` is (operations, magnitude) or ()."""
    given = tuple(strength)
    num_ops, magnitude = given if len(given) == 2 else (0, 0)
    possible = 0 <= num_ops <= MAX_OPERATIONS and num_ops % 1 == 0
    require(
        len(given) in (0, 2) and possible and 0 <= magnitude <= MAX_MAGNITUDE,
        f"config.data.randaugment={given} must be (operations, magnitude) with 0 to"
        f" {MAX_OPERATIONS} operations and a magnitude of 0 to {MAX_MAGNITUDE}, or () for none",
    )


def rand_augment(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    num_ops: int = 2,
    magnitude: float = 7,
    fill: tuple[int, int, int] = WHITE,
) -> Image.Image:
    """Applies randomly drawn operations to an image, each with probability 1/2.

    Args:
        image: RGB image.
        rng: source of randomness.
        num_ops: how many operations are drawn from `OPERATIONS`, with replacement.
        magnitude: strength of all of them, 0 to 10; the direction of shears, shifts and turns is
            random.
        fill: colour of the corners that a shear, shift or turn uncovers. White suits drawings on
            white and scans, and is the default; the official code takes grey (128, 128, 128).

    Returns:
        RGB image of the same size.

    Source: RandAugment (arXiv 1909.13719); list, strengths and probability as in the official VLMo
    code: no inversion, no cutout, no change of hue or saturation. Its affine operations turn about
    the same points.
    """
    strength = magnitude / MAX_MAGNITUDE
    for _ in range(num_ops):
        operation = _OPERATIONS[int(rng.random() * len(_OPERATIONS))]
        apply, sign = rng.random() < _APPLY_PROBABILITY, 1 if rng.random() < 0.5 else -1
        if apply:
            image = operation(image, sign * strength, fill)
    return image


def _enhancement(strength: float) -> float:
    return 0.1 + 1.8 * abs(strength)


def _affine(
    image: Image.Image, coefficients: tuple[float, ...], fill: tuple[int, int, int]
) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill
    )


def _translate(
    image: Image.Image, left: float, up: float, fill: tuple[int, int, int]
) -> Image.Image:
    if left % 1 or up % 1:
        return _affine(image, (1, 0, left, 0, 1, up), fill)
    # By whole pixels a copy is the same, at a thirtieth of the cost.
    moved = Image.new("RGB", image.size, fill)
    moved.paste(image, (-int(left), -int(up)))
    return moved


def _identity(image, strength, fill):
    return image


def _auto_contrast(image, strength, fill):
    return ImageOps.autocontrast(image)


def _equalize(image, strength, fill):
    return ImageOps.equalize(image)


def _brightness(image, strength, fill):
    return ImageEnhance.Brightness(image).enhance(_enhancement(strength))


def _sharpness(image, strength, fill):
    return ImageEnhance.Sharpness(image).enhance(_enhancement(strength))


def _shear_x(image, strength, fill):
    return _affine(image, (1, _MAX_SHEAR * strength, 0, 0, 1, 0), fill)


def _shear_y(image, strength, fill):
    return _affine(image, (1, 0, 0, _MAX_SHEAR * strength, 1, 0), fill)


def _translate_x(image, strength, fill):
    return _translate(image, _MAX_TRANSLATION * strength, 0, fill)


def _translate_y(image, strength, fill):
    return _translate(image, 0, _MAX_TRANSLATION * strength, fill)


def _rotate(image, strength, fill):
    return image.rotate(_MAX_DEGREES * strength, Image.Resampling.BILINEAR, fillcolor=fill)


OPERATIONS: dict[str, _Operation] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}
_OPERATIONS = tuple(OPERATIONS.values())
