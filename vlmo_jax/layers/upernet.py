"""UperNet: maps of classes from grids of features at four scales.

Source: Xiao et al., "Unified Perceptual Parsing for Scene Understanding", arXiv 1807.10221, as
mmsegmentation 0.11 has it, and the scales that BEiT makes of one grid (unilm,
beit/semantic_segmentation).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.batch_norm import BatchNorm
from vlmo_jax.layers.conv import Conv, Doubling, max_pool
from vlmo_jax.layers.grids import average_parts, resize_bilinear
from vlmo_jax.layers.linear import Linear, gelu
from vlmo_jax.parallel.sharding import constrain

SCALES = 4  # of a pyramid: grids of features
CLASSIFIER_STD = 0.01


class ConvNorm(nnx.Module):
    """Convolution without a bias, BatchNorm, ReLU.

    Args:
        in_features, out_features, size, dtype: see Conv.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        size: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        axes = ("embed", "mlp")
        self.conv = Conv(
            in_features, out_features, size, axes=axes, use_bias=False, dtype=dtype, rngs=rngs
        )
        self.norm = BatchNorm(out_features, rngs=rngs)

    def __call__(self, x: jax.Array, *, learning: bool = False) -> jax.Array:
        """[B, h, w, in] -> [B, h, w, out] in the compute type; `learning` normalises by the batch
        and moves the running statistics of this module.
        """
        # Left to choose, XLA splits channels, and on a mesh 2 x 2 x 2 its gradient of the input is
        # wrong by some thousandths (tests/training/test_segment_meshes.py).
        y = constrain(self.conv(x), "batch")
        return jax.nn.relu(_normed(self.norm, y, learning)).astype(y.dtype)


class Scales(nnx.Module):
    """Makes four scales of four grids of the same size: four and two times as fine, the same, and
    half as fine.

    Args:
        width: D.
        dtype: compute type.
    """

    def __init__(self, width: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.first = Doubling(width, width, **layers)
        self.first_norm = BatchNorm(width, rngs=rngs)
        self.first_again = Doubling(width, width, **layers)
        self.second = Doubling(width, width, **layers)

    def __call__(self, grids: Sequence[jax.Array], *, learning: bool = False) -> list[jax.Array]:
        """Four grids [B, h, w, D] -> [B, 4 h, 4 w, D], [B, 2 h, 2 w, D], [B, h, w, D] and
        [B, h / 2, w / 2, D], rounded down; `learning` as of ConvNorm.
        """
        first, second, third, fourth = grids
        y = self.first(first)
        y = gelu(_normed(self.first_norm, y, learning).astype(y.dtype))
        return [self.first_again(y), self.second(second), third, max_pool(fourth)]


class PyramidPooling(nnx.Module):
    """Joins a grid with means over its parts.

    Args:
        in_features: of the grid.
        channels: C, of the result.
        parts: parts a side of each pooling.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        channels: int,
        parts: Sequence[int],
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.parts = tuple(parts)
        self.pooled = _several(len(parts), lambda: ConvNorm(in_features, channels, 1, **layers))
        self.joined = ConvNorm(in_features + len(parts) * channels, channels, 3, **layers)

    def __call__(self, x: jax.Array, *, learning: bool = False) -> jax.Array:
        """[B, h, w, in] -> [B, h, w, C]; `learning` as of ConvNorm."""
        size, grids = (x.shape[1], x.shape[2]), [x]
        for parts, layer in zip(self.parts, self.pooled.values(), strict=True):
            pooled = layer(average_parts(x, parts), learning=learning)
            grids.append(resize_bilinear(pooled, size))
        return self.joined(_joined(grids), learning=learning)


class UperNetHead(nnx.Module):
    """Features of all scales, from the coarsest down, joined at the finest.

    Args:
        in_features: of the grids.
        channels: C, inside the head.
        num_classes: K.
        parts: of the pyramid pooling.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        channels: int,
        num_classes: int,
        parts: Sequence[int],
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        self.pyramid = PyramidPooling(in_features, channels, parts, **layers)
        self.lateral = _several(SCALES - 1, lambda: ConvNorm(in_features, channels, 1, **layers))
        self.smooth = _several(SCALES - 1, lambda: ConvNorm(channels, channels, 3, **layers))
        self.joined = ConvNorm(SCALES * channels, channels, 3, **layers)
        self.classes = _classifier(channels, num_classes, **layers)

    def __call__(
        self,
        grids: Sequence[jax.Array],
        *,
        dropout: float = 0.0,
        key: jax.Array | None = None,
        learning: bool = False,
    ) -> jax.Array:
        """Logits of classes.

        Args:
            grids: four [B, h, w, D], the finest first.
            dropout: share of the channels of an image that the last layer does not see.
            key: turns dropout on.
            learning: as of ConvNorm.

        Returns:
            [B, h, w, K] float32, as fine as the first grid.
        """
        *finer, coarsest = grids
        pairs = zip(self.lateral.values(), finer, strict=True)
        sides = [layer(grid, learning=learning) for layer, grid in pairs]
        sides.append(self.pyramid(coarsest, learning=learning))
        for number in range(SCALES - 1, 0, -1):
            above = sides[number - 1]
            sides[number - 1] = above + resize_bilinear(
                sides[number], (above.shape[1], above.shape[2])
            )
        size = sides[0].shape[1], sides[0].shape[2]
        smoothed = [
            layer(side, learning=learning)
            for layer, side in zip(self.smooth.values(), sides[:-1], strict=True)
        ]
        resized = [resize_bilinear(side, size) for side in (*smoothed[1:], sides[-1])]
        y = self.joined(_joined([smoothed[0], *resized]), learning=learning)
        return self.classes(drop_channels(y, dropout, key)).astype(jnp.float32)


class ConvHead(nnx.Module):
    """One convolution and a classifier on one grid: the auxiliary head.

    Args:
        in_features: of the grid.
        channels: C, inside the head.
        num_classes: K.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        channels: int,
        num_classes: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.conv = ConvNorm(in_features, channels, 3, dtype=dtype, rngs=rngs)
        self.classes = _classifier(channels, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        grid: jax.Array,
        *,
        dropout: float = 0.0,
        key: jax.Array | None = None,
        learning: bool = False,
    ) -> jax.Array:
        """[B, h, w, D] -> logits [B, h, w, K] float32; arguments as of UperNetHead."""
        y = drop_channels(self.conv(grid, learning=learning), dropout, key)
        return self.classes(y).astype(jnp.float32)


def drop_channels(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes whole channels of images `x` [B, h, w, C] with probability `rate` and scales the rest;
    no key, no dropout.
    """
    if key is None or rate == 0.0:
        return x
    batch, _, _, channels = x.shape
    keep = jax.random.bernoulli(key, 1.0 - rate, (batch, 1, 1, channels))
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


def _classifier(channels: int, num_classes: int, **layers: Any) -> Linear:
    return Linear(channels, num_classes, axes=("embed", None), init_std=CLASSIFIER_STD, **layers)


def _several(count: int, make: Callable[[], ConvNorm]) -> nnx.Dict:
    """So many layers, by number."""
    return nnx.Dict({f"at_{number}": make() for number in range(count)})


def _normed(norm: BatchNorm, x: jax.Array, learning: bool) -> jax.Array:
    return norm.learn(x) if learning else norm(x)


def _joined(grids: Sequence[jax.Array]) -> jax.Array:
    return jnp.concatenate(grids, axis=-1)
