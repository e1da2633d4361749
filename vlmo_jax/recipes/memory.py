"""Refuses runs that cannot fit, before anything is traced or allocated."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import ConfigError, require
from vlmo_jax.models.build import DTYPES, MODELS, compute_dtype
from vlmo_jax.models.sizes import MeshShape

FLOAT32, BFLOAT16 = 4, 2  # bytes
GIB = 2**30
WORKER = 300 * 2**20  # bytes that a process of the input takes at least

# Sizes of a large run of today; of a run that is too large, the one that is furthest beyond is
# named.
USUAL = {
    "model.image_size": 224,
    "model.vocab_size": 30_522,
    "model.width": 768,
    "model.depth": 12,
    "model.num_heads": 12,
    "model.mlp_dim": 3072,
    "model.text_length": 196,
    "model.text_positions": 196,
    "model.num_answers": 3129,
    "model.num_hidden": 256,
    "model.num_groups": 4,
    "model.blocks_per_group": 2,
    "model.num_init": 128,
    "batch_size": 1024,
}
USUAL_PATCH = 16


def check_training(config: ConfigDict, mesh: MeshShape, memory: int, row_bytes: int) -> None:
    """Refuses a training run that needs more memory than a device has.

    What is counted is there at once in every step: parameters and averages in float32, both
    moments; of the examples that go through a device together their rows, the inputs of the blocks
    and one attention. Gradients and what compilers add are not; where anything is frozen, neither
    are moments and inputs of blocks.

    Args:
        config: of a recipe whose fields are possible.
        mesh: (data, fsdp, tensor).
        memory: bytes of a device.
        row_bytes: of an example as it comes from the input.

    Raises:
        ConfigError: it cannot fit.
    """
    data, fsdp, tensor = mesh
    each = FLOAT32 * (1 + (config.optimizer.ema_decay > 0)) + 2 * _size_of_moments(config)
    state = each * _num_params(config) // (fsdp * tensor)
    rows = max(1, config.batch_size // (data * fsdp * config.accumulation))
    batch = config.batch_size // (data * fsdp) * row_bytes
    batch += rows * _bytes_of_example(config, tensor, blocks=not config.optimizer.frozen)
    if state + batch > memory:
        raise ConfigError(
            f"{_furthest_beyond(config)} asks for too much memory: a step needs at least"
            f" {_gib(state + batch)} on each device ({_gib(state)} for {_num_params(config):,}"
            f" parameters and what is kept with them, {_gib(batch)} for {rows:,} examples at once),"
            f" which has {_gib(memory)}; use a smaller one, more config.accumulation, or more"
            " devices with config.mesh.fsdp"
        )


def check_input(config: ConfigDict, processes: int, memory: int, row_bytes: int) -> None:
    """Refuses processes that make batches, and batches kept ready, that the host has no memory for.

    Args:
        config: of a recipe whose fields are possible.
        processes: of the job.
        memory: bytes of the host.
        row_bytes: of an example as it comes from the input.

    Raises:
        ConfigError: they cannot fit.
    """
    workers = config.data.num_workers
    require(
        workers * WORKER <= memory,
        f"config.data.num_workers={workers} processes take at least {_gib(workers * WORKER)} of the"
        f" host, which has {_gib(memory)}; use fewer",
    )
    kept = min(config.data.prefetch, config.steps)
    needed = kept * (config.batch_size // processes) * row_bytes
    require(
        needed <= memory,
        f"config.data.prefetch={config.data.prefetch} batches of config.batch_size="
        f"{config.batch_size} take {_gib(needed)} of the host, which has {_gib(memory)}; use fewer",
    )


def check_evaluation(config: ConfigDict, name: str, mesh: MeshShape, memory: int) -> None:
    """Refuses an evaluation whose parameters or batches need more memory than a device has; see
    `check_training`.

    Args:
        config, mesh, memory: as there.
        name: of a member of `config.evals`.

    Raises:
        ConfigError: it cannot fit.
    """
    data, fsdp, tensor = mesh
    params = FLOAT32 * _num_params(config) // (fsdp * tensor)
    rows = config.evals[name].batch_size // (data * fsdp)
    batch = rows * _bytes_of_example(config, tensor, blocks=False)
    if params > memory:
        raise ConfigError(
            f"{_furthest_beyond(config)} asks for too much memory: {_num_params(config):,}"
            f" parameters take {_gib(params)} of each device, which has {_gib(memory)}; use a"
            " smaller one, or more devices with config.mesh.fsdp"
        )
    require(
        params + batch <= memory,
        f"config.evals.{name}.batch_size={config.evals[name].batch_size} asks for too much memory:"
        f" a batch takes at least {_gib(batch)} of each device, which has {_gib(memory)}; use a"
        " smaller one",
    )


def _size_of_moments(config: ConfigDict) -> int:
    """Bytes of a moment of a parameter at least: what is frozen has none."""
    if config.optimizer.frozen:
        return 0
    return BFLOAT16 if config.optimizer.get("bfloat16_moments", False) else FLOAT32


def _num_params(config: ConfigDict) -> int:
    return MODELS[config.model.kind].num_params(config.model)


def _bytes_of_example(config: ConfigDict, tensor: int, *, blocks: bool) -> int:
    """Bytes of an example on its way through the model; without those that only a gradient needs,
    the inputs of its blocks.
    """
    model, num_values = config.model, MODELS[config.model.kind].num_values
    text, images = "tokenizer" in config, int(config.data.kind != "texts")
    if not blocks:  # an evaluation encodes images and texts on their own
        text = text and not images
    elif config.data.kind == "statements":
        images = 2
    values, attention = num_values(model, images=images, text=text)
    if blocks and config.data.kind == "pairs":  # encoded on their own, and some of them fused
        _, alone = num_values(model, images=1, text=False)
        attention = max(alone, int(_fused_share(config) * attention))
    size = DTYPES[compute_dtype(model.dtype)].dtype.itemsize
    return FLOAT32 * attention // tensor + (size * values if blocks else 0)


def _fused_share(config: ConfigDict) -> float:
    """The share of the pairs of a batch that take fused passes."""
    if config.task.kind == "retrieval":
        return 0.0
    return (config.task.get("num_fused", 0) or config.batch_size) / config.batch_size


def _furthest_beyond(config: ConfigDict) -> str:
    """The size that is furthest beyond what is usual, as it is given."""
    flat: Mapping[str, Any] = {f"model.{name}": value for name, value in config.model.items()}
    flat = {**flat, "batch_size": config.batch_size}
    beyond = {key: flat[key] / usual for key, usual in USUAL.items() if key in flat}
    if "num_groups" in config.model:  # each doubles the width
        beyond["model.num_groups"] = 2.0 ** (config.model.num_groups - USUAL["model.num_groups"])
    if "patch_size" in config.model:
        ratio = config.model.patch_size / USUAL_PATCH  # small ones are many, large ones wide
        beyond["model.patch_size"] = max(ratio, 1 / ratio)
    key = max(beyond, key=lambda name: beyond[name])
    if beyond[key] < 4:  # nothing stands out: it is the batch that must be split
        key = "batch_size"
    return f"config.{key}={flat[key]}"


def _gib(size: int) -> str:
    return f"{size / GIB:,.2f} GiB" if size < 2**60 else f"{size // GIB:,} GiB"
