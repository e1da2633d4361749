"""What a chip sends as chips and batch grow together: weak scaling on paper, by counting."""

import jax
from ml_collections import ConfigDict

from vlmo_jax.bench.report import Report
from vlmo_jax.bench.roofline import Sent, count_sent, find_chip, known_chips
from vlmo_jax.bench.topology import megabytes, prepared
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe

CHIPS = (16, 64, 256, 1024)
GROWS = 1.1  # times, at the last step: a sum in a ring grows there by less than a hundredth


def count_scaling(config: ConfigDict, *, topology: str, rows: int) -> Report:
    """Counts what reaches a chip in a step on 16 to 1,024 chips of equal share of the batch.

    Args:
        config: ConfigDict of a recipe, whose mesh has `fsdp` and `tensor`; `data` grows, and so do
            `task.negative_groups`, which are those of the fewest chips.
        topology: name whose chip is meant, such as "v5e" or "v5e:4x4".
        rows: of the batch, for each chip.

    Returns:
        Report, a row for each number of chips, then what grows.

    Raises:
        ConfigError: nothing is known of the chip, or the recipe cannot run so.
    """
    config = prepared(config)
    chip = find_chip(topology)
    if chip is None:
        raise ConfigError(
            f"--topology={topology}: nothing is known of its chips to count by; known are"
            f" {known_chips()}"
        )
    counted = [_count(config, chips, rows) for chips in CHIPS]
    lines = []
    for chips, sent in zip(CHIPS, counted, strict=True):
        kinds = ", ".join(f"{name} {megabytes(size)}" for name, size in sent._asdict().items())
        seconds = sum(sent) / chip.links
        total = f"{megabytes(sum(sent))} a chip a step, at least {seconds:.3g} s of links"
        lines.append((f"{chips:,} chips, batch {chips * rows:,}", f"{total}: {kinds}"))
    grows = [
        name
        for name, before, after in zip(Sent._fields, *counted[-2:], strict=True)
        if after > GROWS * before
    ]
    lines.append(("grows", ", ".join(grows) or "nothing"))
    mesh = f"fsdp {config.mesh.fsdp} x tensor {config.mesh.tensor}"
    return Report(
        f"weak scaling on {topology}, {rows} rows a chip, {mesh}, data what is left, counted",
        lines,
        {
            "benchmark": "scaling",
            "topology": topology,
            "rows": rows,
            "model": config.model.to_dict(),
            "mesh": config.mesh.to_dict(),
            "jax": jax.__version__,
            "sent": [
                {"chips": chips, **sent._asdict()}
                for chips, sent in zip(CHIPS, counted, strict=True)
            ],
            "grows": grows,
        },
    )


def _count(config: ConfigDict, chips: int, rows: int) -> Sent:
    tried = config.copy_and_resolve_references()
    tried.batch_size, tried.mesh.data = chips * rows, -1
    if groups := config.task.get("negative_groups", 0):
        tried.task.negative_groups = groups * chips // CHIPS[0]
    Recipe(tried).check(chips)
    return count_sent(tried, sharding.mesh_shape(tried.mesh, chips))
