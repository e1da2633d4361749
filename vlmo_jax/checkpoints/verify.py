"""Reads a checkpoint whole, and compares it with the digests that it was saved with."""

import pathlib
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from vlmo_jax.checkpoints.damage import DamagedCheckpointError, check_arrays, naming_damage, unseal
from vlmo_jax.checkpoints.digests import digest_arrays
from vlmo_jax.checkpoints.plain_paths import plain_path
from vlmo_jax.checkpoints.store import ITEMS, array_paths


class Verified(NamedTuple):
    """A checkpoint that could be read whole.

    Attributes:
        arrays: how many.
        nbytes: their bytes in memory.
        compared: whether it has digests, which all of them agree with.
    """

    arrays: int
    nbytes: int
    compared: bool


def verify_checkpoint(folder: pathlib.Path) -> Verified:
    """Reads every array of a checkpoint to the host, an item at a time.

    Args:
        folder: of one step.

    Raises:
        DamagedCheckpointError: files are missing, cut, or not as they were written.
    """
    folder = folder.absolute()
    plain = plain_path(folder.parent) / folder.name
    with naming_damage(folder):
        sealed = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(plain / "meta")
    _, digests = unseal(folder, sealed)
    arrays, nbytes = 0, 0
    for item in (item for item in ITEMS if item != "meta"):
        if not (folder / item).is_dir():
            if item == "params" or item in (digests or {}):
                raise DamagedCheckpointError(folder, f"{item} is missing")
            continue
        with naming_damage(folder):
            found = array_paths(_read_item(plain / item))
        if digests is not None:
            check_arrays(folder, item, digest_arrays(found), digests.get(item, {}))
        arrays += len(found)
        nbytes += sum(np.asarray(array).nbytes for array in found.values())
    return Verified(arrays, nbytes, digests is not None)


def _read_item(folder: pathlib.Path) -> dict:
    handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=1)
    tree = handler.metadata(folder).tree
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    args = ocp.args.PyTreeRestore(restore_args=how)
    return ocp.Checkpointer(handler).restore(folder, args=args)
