"""The state of a run: what an update reads and writes, and a checkpoint holds."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax

# The name in `TrainState.extra` of the averaged parameters, a tree like `params`.
AVERAGED = "averaged_params"


@flax.struct.dataclass
class TrainState:
    """Everything that an update reads and writes.

    Attributes:
        step: int32 [], updates so far.
        params: pure nested dict of float32 arrays.
        opt_state: moments as pure nested dicts of float32 arrays; frozen parameters have none.
        extra: name -> tree of what the task or the optimizer keeps beside those and updates each
            step, such as AVERAGED; may be empty. What never changes, such as the parameters of a
            visual tokenizer, is no part of it: the checkpoint that it comes from has it.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    extra: Mapping[str, Any]
