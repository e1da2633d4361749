"""How the images of a step are mixed: drawn here, by seed and step; done on the devices."""

import dataclasses
import functools

import numpy as np

from vlmo_jax.commands.config_errors import require
from vlmo_jax.input.images.mixup import Box, Mix, cut_box, share_outside
from vlmo_jax.input.schema import Batch, Column

STRENGTH_MOST = 100.0
_STREAM = 0x6D6978  # keeps these draws apart from those of examples

MIX_COLUMNS = {
    "mix_share": Column((), np.float32, 1),
    "mix_box": Column((4,), np.int32),
}


@dataclasses.dataclass(frozen=True)
class Mixing:
    """How mixes are drawn, one for all images of a step; see `images.mixup`.

    Args:
        mixup: of the beta distribution that a share is drawn from where images are blended; 0:
            never.
        cutmix: the same where a box is cut out; 0: never.
        switch: how often a box is cut out, where both may be.

    Raises:
        ConfigError: a number is out of range.

    Source: timm's Mixup in its mode "batch", as BEiT is fine-tuned: boxes as timm 0.3.2 cuts them.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    switch: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            require(
                0 <= value <= STRENGTH_MOST,
                f"config.data.{name}={value} must be 0 (never) to {STRENGTH_MOST:g}",
            )
        require(
            0 <= self.switch <= 1,
            f"config.data.mix_switch={self.switch} must be a share of the steps, 0 to 1",
        )

    @property
    def mixes(self) -> bool:
        """Whether anything is mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def draw(self, seed: int, step: int, size: int) -> Mix:
        """The mix of a step.

        Args:
            seed: of the run.
            step: its number.
            size: side of the images in pixels.
        """
        return _draw(self, seed, step, size)

    def write(self, batch: Batch, row: int, mix: Mix) -> None:
        """Writes a mix into the columns MIX_COLUMNS of a row."""
        batch["mix_share"][row] = mix.share
        batch["mix_box"][row] = mix.box or (0, 0, 0, 0)


@functools.lru_cache(maxsize=64)
def _draw(mixing: Mixing, seed: int, step: int, size: int) -> Mix:
    rng = np.random.default_rng((_STREAM, seed, step))
    cuts = mixing.cutmix > 0 and (mixing.mixup == 0 or rng.random() < mixing.switch)
    strength = mixing.cutmix if cuts else mixing.mixup
    share = float(rng.beta(strength, strength))
    if not cuts:
        return Mix(share)
    middle = int(rng.integers(size)), int(rng.integers(size))
    box = cut_box((size, size), share, middle, whole_odd_sides=False)
    return Mix(share_outside(box, (size, size)), box if _has_pixels(box) else None)


def _has_pixels(box: Box) -> bool:
    return box.bottom > box.top and box.right > box.left
