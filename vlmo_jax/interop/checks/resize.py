"""Kind `resize`: position tables at another image size, and the outputs there."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.interop.checks.outputs import model_outputs
from vlmo_jax.interop.checks.reference import (
    OUTPUT_TOLERANCE,
    Arrays,
    Info,
    Reference,
    compare_buffers,
    compare_inputs,
    official_batch,
    relative_grid,
)
from vlmo_jax.interop.vlmo import from_official
from vlmo_jax.layers.resample import resample_image_positions, resample_relative_table

TABLE_TOLERANCE = 1e-4
RELATIVE = "relative_position_bias_table"
ABSOLUTE = "transformer.pos_embed"
TEXT = "text_embeddings.position_embeddings.weight"


def table_kind(name: str, table: np.ndarray) -> str:
    """The official name of a position table: as spelled, or by its rank where it is spelled in
    another way.

    Raises:
        ValueError: it is none of those known.
    """
    if name in (RELATIVE, ABSOLUTE, TEXT):
        return name
    if name.endswith("pos_embed") and table.ndim == 3:
        return ABSOLUTE
    if "relative_position" in name and table.ndim == 2:
        return RELATIVE
    raise ValueError(
        f"a position table src/{name} of shape {table.shape} is not known; known: {RELATIVE},"
        f" {ABSOLUTE}"
    )


def resize_table(
    kind: str, table: np.ndarray, target: np.ndarray, *, depth: int, text_positions: int
) -> np.ndarray:
    """Our resampling of an official table to another size, in the official layout.

    Args:
        kind: one of RELATIVE, ABSOLUTE and TEXT.
        table: the table to resample.
        target: a table of the size wanted.
        depth: layers of the model.
        text_positions: longest text of a relative table, in tokens.
    """
    if kind == TEXT:
        return table
    if kind == ABSOLUTE:
        grid, new_grid = (math.isqrt(x.shape[1] - 1) for x in (table, target))
        return resample_image_positions(table[0], grid=grid, new_grid=new_grid)[None]
    grid, new_grid = (relative_grid(len(x), text_positions) for x in (table, target))
    layers = table.reshape(len(table), depth, -1).transpose(1, 0, 2)
    layers = resample_relative_table(
        layers,
        grid=grid,
        new_grid=new_grid,
        text_positions=text_positions,
        new_text_positions=text_positions,
    )
    return layers.transpose(1, 0, 2).reshape(layers.shape[1], -1)


def check_resize(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares tables resampled by us, and what the model gives with them.

    Parameters are those of the old size or of the new one; their own table has to be src's or
    dst's.

    Raises:
        ValueError: there are no tables, or tables that are not known.
    """
    reference = Reference(arrays, info)
    compare_inputs(reference, report)
    source, target, params = (reference.group(prefix) for prefix in ("src", "dst", "param"))
    report.compare_names("tables", source, target)
    if not source:
        raise ValueError("a resize fixture needs position tables src/... and dst/...")
    tensors = dict(params)
    for name in sorted(set(source) & set(target)):
        kind = table_kind(name, source[name])
        ours = resize_table(
            kind,
            source[name],
            target[name],
            depth=info["model"]["depth"],
            text_positions=reference.text_positions,
        )
        report.compare(f"dst/{name}", ours, target[name], TABLE_TOLERANCE)
        if params[kind].shape == target[name].shape:
            report.compare(f"param/{kind}", target[name], params[kind], TABLE_TOLERANCE)
        else:
            report.compare(f"param/{kind}", source[name], params[kind], 0.0)
        tensors[kind] = ours
    grid = reference.table_grid(tensors, reference.grid)
    graphdef, abstract = reference.build(grid)
    weights, _ = from_official(tensors, reference.places, reference.position)
    weights = reference.checked(weights, abstract, "param with dst's tables")
    compare_buffers(reference, report, grid)
    expected = reference.group("out")
    batch = jax.tree.map(jnp.asarray, official_batch(reference.group("in")))
    outputs = model_outputs(graphdef, weights, batch, tuple(expected))
    for name, value in expected.items():
        report.compare(f"out/{name}", outputs[name], value, OUTPUT_TOLERANCE)
