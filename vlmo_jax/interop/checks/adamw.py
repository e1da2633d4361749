"""Kind `adamw_toy`: the optimizer alone, which is transformers' AdamW and not torch's."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from vlmo_jax.interop.checks.reference import Arrays, Info
from vlmo_jax.training.optimizer import adamw

TOLERANCE = 1e-6
# What the official recipes have; the JSON gives the weight decay.
RATE, BETAS, EPSILON = 0.1, (0.9, 0.98), 1e-8
RIGHT, OTHER = "out/transformers", "out/torch_for_contrast"


def check_adamw(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares the parameters after each step, and that they are not those of torch's AdamW."""
    optimizer = adamw(
        lambda step: jnp.float32(RATE),
        betas=BETAS,
        epsilon=EPSILON,
        decay=jnp.float32(info["config"]["weight_decay"]),
        multiplier=jnp.float32(1),
    )
    params, found = jnp.asarray(arrays["in/init"]), []
    state = optimizer.init(params)
    for gradient in arrays["in/grads"]:
        updates, state = optimizer.update(jnp.asarray(gradient), state, params)
        params = optax.apply_updates(params, updates)
        found.append(np.asarray(params))
    report.compare(RIGHT, np.stack(found), arrays[RIGHT], TOLERANCE)
    if OTHER in arrays:
        apart = bool(np.abs(np.stack(found) - arrays[OTHER]).max() > 10 * TOLERANCE)
        report.compare_equal(f"{OTHER} is another", apart, True)
