"""Compiled memory of the contrast on 8 virtual devices: the tables in SCALING.md.

python -m docs.contrast_memory
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.update(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="8")

import jax
import jax.numpy as jnp

from vlmo_jax.bench.collectives import read_collectives
from vlmo_jax.objectives.batch_contrast import compare_batch
from vlmo_jax.parallel import sharding
from vlmo_jax.tasks.pair_pretrain import Negatives, fetch_negatives, pass_negatives

WIDTH, IMAGE, LENGTH = 768, 224, 40


def contrast(image: Any, text: Any, logit_scale: Any, ids: Any, chunk: int) -> Any:
    """Loss, accuracies and draws with the gradient."""

    def loss(image, text, logit_scale):
        compared = compare_batch(image, text, logit_scale, ids=ids, chunk=chunk)
        return compared.loss, (compared.accuracies(), compared.draw(*map(jax.random.key, (0, 1))))

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(image, text, logit_scale)


def mebibytes(function: Callable[..., Any], *shapes: Any, **static: int) -> str:
    """Temporaries a device, and what reaches it."""
    lowered = jax.jit(function, static_argnames=tuple(static)).lower(*shapes, **static)
    compiled = lowered.compile()
    sent = sum(c.bytes * c.runs for c in read_collectives(compiled.as_text()))
    memory = compiled.memory_analysis().temp_size_in_bytes
    return f"{memory / 2**20:,.1f} MiB, {sent / 1e6:,.1f} MB sent"


if __name__ == "__main__":
    mesh = sharding.make_mesh({"data": 4, "fsdp": 2, "tensor": 1})
    split = sharding.batch_sharding(mesh)
    rows = lambda dtype, *shape: jax.ShapeDtypeStruct(shape, dtype, sharding=split)
    with jax.set_mesh(mesh):
        for size in (4096, 32_768):
            for masked in (0, 2):
                ids = (rows(jnp.uint32, size),) * masked
                vectors = (rows(jnp.float32, size, WIDTH),) * 2
                for chunk in (0, 512, 128):
                    found = mebibytes(contrast, *vectors, 1.0, ids, chunk=chunk)
                    print(f"batch {size}, {'masked, ' if masked else ''}chunk {chunk}: {found}")
        for size in (1024, 4096, 32_768):
            batch = {
                "image": rows(jnp.uint8, size, IMAGE, IMAGE, 3),
                "token_ids": rows(jnp.int32, size, LENGTH),
                "token_mask": rows(jnp.bool_, size, LENGTH),
            }
            negatives = Negatives(*[rows(jnp.int32, size)] * 2)
            for fetch in (fetch_negatives, pass_negatives):
                print(f"batch {size}, {fetch.__name__}: {mebibytes(fetch, batch, negatives)}")
            for groups in (2, 8):
                found = mebibytes(pass_negatives, batch, negatives, groups=groups)
                print(f"batch {size}, {groups} groups: {found}")
