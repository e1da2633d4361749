"""What the processes of a job must be of one mind about."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def any_process(flag: bool) -> bool:
    """Whether any process of the job says so; all of them ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def wait_for_all(what: str) -> None:
    """Returns when all processes of the job have come here.

    Args:
        what: they have done, in a few words.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
