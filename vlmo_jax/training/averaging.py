"""Averages of parameters over the steps of a run (EMA): often better than those of any step."""

from typing import Any

import jax


def update_average(averaged: Any, params: Any, decay: float) -> Any:
    """One step of an exponential moving average: decay * averaged + (1 - decay) * params.

    The average starts from the initial parameters and has no warm-up: after n steps these still
    weigh decay ** n, so that at 0.9999 it is of use after some ten thousand steps. Parameters that
    do not change are kept to the bit.

    Args:
        averaged: tree of the average so far; before the first step a copy of the parameters.
        params: tree like it, after the update of this step.
        decay: from 0 (no memory) to less than 1.

    Source: BEiT's fine-tuning, by timm's ModelEma, which averages all parameters so.
    """
    return jax.tree.map(lambda mean, new: mean + (1 - decay) * (new - mean), averaged, params)
