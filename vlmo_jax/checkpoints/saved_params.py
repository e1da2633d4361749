"""The parameters of a checkpoint, for evaluation, warm starts and conversion: found, read and
verified, in whole or in part.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from vlmo_jax.checkpoints.damage import check_arrays, naming_damage, unseal
from vlmo_jax.checkpoints.digests import digest_arrays
from vlmo_jax.checkpoints.earlier import upgrade_meta
from vlmo_jax.checkpoints.param_names import Path, flatten
from vlmo_jax.checkpoints.plain_paths import plain_path
from vlmo_jax.checkpoints.state import AVERAGED
from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path


class NoCheckpointError(UserError, FileNotFoundError):
    """There is no checkpoint where one is looked for."""


def find_checkpoint(path: str | pathlib.Path) -> tuple[pathlib.Path, int]:
    """Finds the checkpoint that a path means: a work folder, its `checkpoints`, or one numbered
    checkpoint.

    Returns:
        The folder of checkpoints and the step, the latest one if the path does not name it.

    Raises:
        FileNotFoundError: there is no whole checkpoint.
    """
    path = user_path(path).absolute()
    if path.name.isdigit() and (path / "params").is_dir():
        return path.parent, int(path.name)
    for directory in (path / "checkpoints", path):
        steps = [
            int(child.name)
            for child in directory.glob("[0-9]*")
            if child.name.isdigit() and (child / "params").is_dir()
        ]
        if steps:
            return directory, max(steps)
    raise NoCheckpointError(
        f"no checkpoint in {path}; give a work folder (--workdir of a run), its checkpoints/ folder"
        " or one checkpoint in it"
    )


class SavedParams:
    """The parameters of a checkpoint, read a few at a time.

    Args:
        path: see `find_checkpoint`.
        averaged: read the averaged parameters in place of those that were trained.

    Attributes:
        name: folder of the checkpoint.
        step: at which it was saved.
        meta: the JSON values saved beside it, the config in the form of today.
        shapes: path (tuple of strings) -> jax.ShapeDtypeStruct of every parameter.

    Raises:
        FileNotFoundError: no checkpoint there.
        DamagedCheckpointError: its files are not as they were written.
        ValueError: there are no averaged parameters.
    """

    def __init__(self, path: str | pathlib.Path, *, averaged: bool = False) -> None:
        directory, self.step = find_checkpoint(path)
        self.name = directory / str(self.step)
        self._folder = plain_path(directory) / str(self.step)
        # Where the parameters are: an item, and a path within its tree.
        self._item = "extra" if averaged else "params"
        self._root: Path = (AVERAGED,) if averaged else ()
        # Few bytes under way at a time, so that reading adds little to the memory of what is read.
        self._handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=1)
        with naming_damage(self.name):
            sealed = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(self._folder / "meta")
        meta, self._digests = unseal(self.name, sealed)
        self.meta = upgrade_meta(meta)
        if averaged and not self._has_average():
            raise ValueError(
                f"checkpoint {self.name} has no averaged parameters: its run kept none; train with"
                " --config.optimizer.ema_decay=0.9999, or use the parameters that were trained"
            )
        with naming_damage(self.name):
            self.shapes = self._read_shapes()

    def _has_average(self) -> bool:
        if not (self.name / "extra").is_dir():
            return False
        with naming_damage(self.name):
            return AVERAGED in self._handler.metadata(self._folder / "extra").tree

    def _read_shapes(self) -> dict[Path, jax.ShapeDtypeStruct]:
        tree = self._handler.metadata(self._folder / self._item).tree
        for key in self._root:
            tree = tree[key]
        return {
            path: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
            for path, leaf in flatten(tree).items()
        }

    def read(self, paths: Iterable[Path]) -> dict[Path, np.ndarray]:
        """Reads whole parameters to the host of every process.

        Raises:
            DamagedCheckpointError: they are not as they were saved.
        """
        how = ocp.RestoreArgs(restore_type=np.ndarray)
        return self._restore({path: (self.shapes[path], how) for path in paths})

    def read_sharded(self, wanted: Mapping[Path, jax.ShapeDtypeStruct]) -> dict[Path, jax.Array]:
        """Reads parameters straight to their shards: each device gets what it holds and no more.

        Args:
            wanted: path -> jax.ShapeDtypeStruct of the saved shape, with the sharding and type
                wanted now.

        Raises:
            DamagedCheckpointError: they are not as they were saved.
        """
        saved = self._restore(
            {
                path: (
                    # In the type they were saved in, of which the digests are.
                    self.shapes[path],
                    ocp.ArrayRestoreArgs(sharding=leaf.sharding, global_shape=leaf.shape),
                )
                for path, leaf in wanted.items()
            }
        )
        # In one program: to compile one for each shape takes longer than to read them.
        cast = jax.jit(
            lambda arrays: [
                jnp.astype(array, leaf.dtype)
                for array, leaf in zip(arrays, wanted.values(), strict=True)
            ]
        )
        arrays = [saved[path] for path in wanted]
        same = all(array.dtype == wanted[path].dtype for path, array in saved.items())
        return dict(zip(wanted, arrays if same else cast(arrays), strict=True))

    def _restore(self, wanted: Mapping[Path, tuple[Any, ocp.RestoreArgs]]) -> dict[Path, Any]:
        if not wanted:
            return {}
        item, how = (
            nnx.traversals.unflatten_mapping(
                {(*self._root, *path): pair[number] for path, pair in wanted.items()}
            )
            for number in (0, 1)
        )
        args = ocp.args.PyTreeRestore(item=item, restore_args=how, partial_restore=True)
        with naming_damage(self.name):
            restored = flatten(
                ocp.Checkpointer(self._handler).restore(self._folder / self._item, args=args)
            )
        if self._digests is not None:
            saved = self._digests.get(self._item, {})
            known = {path: saved[path] for path in restored if path in saved}
            check_arrays(self.name, self._item, digest_arrays(restored), known)
        return {path[len(self._root) :]: leaf for path, leaf in restored.items()}


def load_params(
    path: str | pathlib.Path, abstract_params: Any, *, averaged: bool = False
) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Loads the parameters of a checkpoint into the shardings wanted now.

    Args:
        path: see `find_checkpoint`.
        abstract_params: tree of jax.ShapeDtypeStruct with shardings.
        averaged: load the averaged parameters in place of those that were trained.

    Returns:
        The parameters, the step they were saved at, and the checkpoint's meta.

    Raises:
        FileNotFoundError: no checkpoint there.
        DamagedCheckpointError: its files are not as they were written.
        ValueError: parameters are missing, unexpected or of another shape, and names them; or there
            are no averaged parameters.
    """
    saved = SavedParams(path, averaged=averaged)
    wanted = flatten(abstract_params)
    in_checkpoint = {path: tuple(leaf.shape) for path, leaf in saved.shapes.items()}
    in_model = {path: tuple(leaf.shape) for path, leaf in wanted.items()}
    problems = [
        f"{'/'.join(path)}: {in_checkpoint.get(path, 'not there')} in the checkpoint,"
        f" {in_model.get(path, 'not there')} in the model"
        for path in sorted({*in_checkpoint, *in_model})
        if in_checkpoint.get(path) != in_model.get(path)
    ]
    if problems:
        raise ValueError(
            f"checkpoint {saved.name} does not fit config.model ({len(problems)} parameters"
            " differ): "
            + "; ".join(problems[:5])
            + ("; ..." if len(problems) > 5 else "")
            + _describe_origin(saved.meta)
        )
    return nnx.traversals.unflatten_mapping(saved.read_sharded(wanted)), saved.step, saved.meta


def _describe_origin(meta: Mapping[str, Any]) -> str:
    """The fields of a checkpoint's config that most often differ, in words behind others."""
    config = meta.get("config", {})
    keys = (("task", "kind"), ("model", "kind"), ("model", "image_size"), ("model", "heads"))
    made = [
        f"config.{part}.{field}={value}"
        for part, field in keys
        if (value := (config.get(part) or {}).get(field))
    ]
    return f"; it was made with {', '.join(made)}" if made else ""
