"""How long a step takes at least on TPUs or GPUs, and which split of it fits and is fast: by
counting.

Chips are what their makers' pages say; nothing here was measured. A step takes at least as long as
its arithmetic at the chips' peak, its traffic with their memory at full bandwidth, and its traffic
between chips at the full bandwidth of all links together, each alone; at most about their sum if
none goes on beside another. Real programs reach a part of each peak.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import MODELS
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.models.sizes import MeshShape
from vlmo_jax.recipes import Recipe

GIGA = 1e9
BFLOAT16, FLOAT32, INT32 = 2, 4, 4  # bytes
ROOM = 0.65  # of a chip's memory that a split may take by count: compilers add half as much


class Chip(NamedTuple):
    """What a chip can do.

    Attributes:
        flops: dense bfloat16 FLOP/s.
        memory: bytes.
        bandwidth: bytes/s of its memory.
        links: bytes/s of all its links to other chips.
    """

    flops: float
    memory: float
    bandwidth: float
    links: float


# First part of a topology's name -> its chip, as its maker publishes it (cloud.google.com/tpu/docs;
# data sheets of NVIDIA), not run here. Links of GPUs are those within a machine, one way.
CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1228 * GIGA, 300 * GIGA),
    "v5e": Chip(197e12, 16 * 2**30, 819 * GIGA, 200 * GIGA),
    "v5p": Chip(459e12, 95 * 2**30, 2765 * GIGA, 600 * GIGA),
    "v6e": Chip(918e12, 32 * 2**30, 1640 * GIGA, 448 * GIGA),
    "a100": Chip(312e12, 80 * GIGA, 2039 * GIGA, 300 * GIGA),
    "h100": Chip(989e12, 80 * GIGA, 3350 * GIGA, 450 * GIGA),
    "h200": Chip(989e12, 141 * GIGA, 4800 * GIGA, 450 * GIGA),
    "b200": Chip(2250e12, 180 * GIGA, 8000 * GIGA, 900 * GIGA),
}


class Bounds(NamedTuple):
    """Seconds that a step takes at least, by what binds it."""

    arithmetic: float
    memory: float
    links: float

    @property
    def binding(self) -> str:
        """The largest."""
        return max(self._fields, key=lambda name: getattr(self, name))


class Sent(NamedTuple):
    """Bytes that reach a chip in a step, by what they are.

    Attributes:
        weights: gathered over fsdp.
        gradients: summed over data and fsdp.
        activations: summed over tensor.
        features: of all pairs, for the contrast, and their gradients.
        negatives: images and texts that hard negatives are fetched from.
    """

    weights: float
    gradients: float
    activations: float
    features: float
    negatives: float


class Split(NamedTuple):
    """A split of a recipe over chips, counted.

    Attributes:
        mesh: (data, fsdp, tensor).
        state: bytes a chip of parameters, moments and averages.
        rows: bytes a chip of a batch on its way, gathered images and similarities included.
        sent: bytes that reach a chip in a step.
        bounds: see `Bounds`.
    """

    mesh: MeshShape
    state: int
    rows: int
    sent: int
    bounds: Bounds

    @property
    def memory(self) -> int:
        """Bytes a chip."""
        return self.state + self.rows


def find_chip(topology: str) -> Chip | None:
    """The chip of a topology such as "v5e:4x4", or None for one that the table has not."""
    return CHIPS.get(topology.partition(":")[0])


def known_chips() -> str:
    """The chips that the table has, for messages."""
    return ", ".join(CHIPS)


def bounds_of(chip: Chip, *, flops: float, traffic: float, received: float) -> Bounds:
    """Bounds of a step.

    Args:
        chip: see `Chip`.
        flops, traffic, received: of one chip: FLOPs, bytes between it and its memory, and bytes
            that reach it from others.
    """
    return Bounds(flops / chip.flops, traffic / chip.bandwidth, received / chip.links)


def find_splits(config: ConfigDict, topology: str, num_chips: int) -> list[Split]:
    """The splits that a recipe can take, those that fit first, the fastest first among them.

    Args:
        config: ConfigDict of a recipe that passes the checks on some mesh.
        topology: name of it.
        num_chips: of it.

    Raises:
        ConfigError: no chip of this name is known, or nothing can be split so.
    """
    chip = find_chip(topology)
    if chip is None:
        raise ConfigError(
            f"--topology={topology}: nothing is known of its chips to search by; known are"
            f" {known_chips()}"
        )
    splits = [_count(config, mesh, chip) for mesh in _meshes(config, num_chips)]
    if not splits:
        raise ConfigError(
            f"no mesh of {num_chips} chips takes config.batch_size={config.batch_size} and"
            f" config.model.num_heads={config.model.num_heads}; use a multiple of the chips, or a"
            " smaller topology"
        )
    order = lambda split: (split.memory > ROOM * chip.memory, sum(split.bounds), split.memory)
    return sorted(splits, key=order)


def _meshes(config: ConfigDict, num_chips: int) -> Iterator[MeshShape]:
    """The meshes that the recipe's own checks take."""
    divisors = [size for size in range(1, num_chips + 1) if num_chips % size == 0]
    for fsdp, tensor in itertools.product(divisors, divisors):
        if num_chips % (fsdp * tensor):
            continue
        tried = config.copy_and_resolve_references()
        tried.mesh.update(data=num_chips // (fsdp * tensor), fsdp=fsdp, tensor=tensor)
        try:
            Recipe(tried).check(num_chips)
        except ConfigError:
            continue
        yield num_chips // (fsdp * tensor), fsdp, tensor


def count_sent(config: ConfigDict, mesh: MeshShape) -> Sent:
    """Counts what reaches a chip in a step.

    Weights are gathered over fsdp for each of three passes (image, text, fused), forward, again
    for recomputed blocks and backward.

    Args:
        config: ConfigDict of a recipe.
        mesh: (data, fsdp, tensor).
    """
    data, fsdp, tensor = mesh
    model = config.model
    params = MODELS[model.kind].num_params(model) // tensor
    rows = config.batch_size // (data * fsdp)
    fused = "itm_weight" in config.task
    compared = fused or "contrast_chunk" in config.task
    passes = 1 + 4 * fused  # with an image, or as good as
    moved = BFLOAT16 * rows * passes * _num_tokens(config) * model.width
    tokens = model.get("text_length", 0)
    groups = max(1, config.task.get("negative_groups", 0))
    fetched = config.batch_size // groups if groups < data * fsdp else 0
    pair = 3 * model.get("image_size", 0) ** 2 + tokens * (INT32 + 1)  # with the text's mask
    return Sent(
        weights=_gathers(config) * BFLOAT16 * params * (fsdp - 1) / fsdp,
        gradients=BFLOAT16
        * params
        * ((fsdp - 1) / fsdp + 2 / fsdp * (data - 1) / data),  # scattered, then summed
        activations=4 * _times(config) * model.depth * moved * (tensor - 1) / tensor,
        features=compared * 8 * FLOAT32 * config.batch_size * model.width,
        negatives=fused * fetched * pair,
    )


def _count(config: ConfigDict, mesh: MeshShape, chip: Chip) -> Split:
    """What a split takes.

    Counted are parameters, averages and gradients in float32, and both moments; of the rows that go
    through at once the inputs of all blocks of all passes, and of the fused passes of one block
    three arrays as large as its attention and three as its hidden layer; images that negatives are
    fetched from; similarities.
    """
    data, fsdp, tensor = mesh
    chips, shards = math.prod(mesh), data * fsdp
    model, recipe = config.model, Recipe(config)
    params = MODELS[model.kind].num_params(model)
    owned = params // (fsdp * tensor)
    rows = config.batch_size // shards
    pixels = 3 * model.get("image_size", 0) ** 2
    groups = max(1, config.task.get("negative_groups", 0))
    chunk = config.task.get("contrast_chunk", 0) or config.batch_size
    fused = "itm_weight" in config.task
    passes = 1 + 4 * fused  # with an image, or as good as
    inputs, attention = MODELS[model.kind].num_values(model, images=1, text=fused)
    hidden = BFLOAT16 * _num_tokens(config) * model.mlp_dim
    working = 3 * max(1, passes - 1) * (FLOAT32 * attention + hidden) // tensor
    batch = max(1, rows // config.accumulation) * (passes * BFLOAT16 * inputs + working)
    batch += (
        rows * pixels + fused * config.batch_size // groups * pixels + 8 * FLOAT32 * rows * chunk
    )
    moments = FLOAT32 if not config.optimizer.get("bfloat16_moments", False) else BFLOAT16
    state = owned * (FLOAT32 * (2 + (config.optimizer.ema_decay > 0)) + 2 * moments)
    sent = sum(count_sent(config, mesh))
    flops = TRAINING_FACTOR * recipe.forward_flops() * config.batch_size / chips
    traffic = (
        4 * owned * (FLOAT32 + moments)
        + _gathers(config) * BFLOAT16 * params / tensor
        + 2 * batch * 3
    )
    bounds = bounds_of(chip, flops=flops, traffic=traffic, received=sent)
    return Split(mesh, state, batch, int(sent), bounds)


def _num_tokens(config: ConfigDict) -> int:
    """Of an image and a text."""
    model = config.model
    patches = (model.get("image_size", 0) // model.patch_size) ** 2
    return patches + 1 + model.get("text_length", 0)


def _times(config: ConfigDict) -> int:
    """How often a pass computes with a weight: forward, backward, recomputed blocks."""
    return 3 if config.model.get("remat", "none") != "none" else 2


def _gathers(config: ConfigDict) -> int:
    """How often a step needs each weight."""
    return 3 * _times(config) * config.accumulation
