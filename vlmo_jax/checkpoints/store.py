"""Checkpoints with Orbax: saved in the background, restored exactly, on any mesh and process count.

A checkpoint has these items: `params` (all that evaluation and warm starts need), `optimizer`
(step and moments), `extra` (what a state has beside these, averaged parameters for one; only where
there is something) and `meta` (the config, the preprocessing, the tokenizer's fingerprint). There
is no data position to save: what a step reads is a function of the seed and the step.

Version 0.1 had `extra` within `optimizer`, with the frozen visual tokenizer of stage 1 in it; such
checkpoints are restored without reading that.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from vlmo_jax.checkpoints.earlier import restore_without_extra, upgrade_meta
from vlmo_jax.checkpoints.param_names import Path, flatten
from vlmo_jax.checkpoints.state import AVERAGED, TrainState

ITEMS = ("params", "optimizer", "extra", "meta")


class Checkpoints:
    """The checkpoints of one work folder.

    Args:
        directory: where they go, one numbered folder each.
        keep_last: how many of the latest to keep.
        best_metric: name of a metric whose highest checkpoint is kept too, or its last part (see
            `find_metric`), or None.
    """

    def __init__(
        self, directory: str | pathlib.Path, *, keep_last: int, best_metric: str | None = None
    ) -> None:
        self.directory = pathlib.Path(directory).absolute()
        self._best_metric, self._keep_last = best_metric, keep_last
        keep = [checkpoint_managers.LatestN(n=keep_last)]
        if best_metric:
            keep.append(
                checkpoint_managers.BestN(
                    n=1, get_metric_fn=self._score, keep_checkpoints_without_metrics=False
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
            best_fn=(
                self._score if best_metric else None
            ),  # without it Orbax keeps metrics in memory only
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options, item_names=ITEMS)

    def _score(self, metrics: Mapping[Any, float]) -> float:
        score = metrics.get(self._best_metric, -math.inf)
        return score if math.isfinite(score) else -math.inf

    def latest_step(self) -> int | None:
        """Step of the latest whole checkpoint, or None."""
        return self._manager.latest_step()

    def can_resume(self, step: int) -> bool:
        """Whether a checkpoint holds moments too: `save_params` saves parameters alone."""
        return (self.directory / str(step) / "optimizer").is_dir()

    def save(
        self,
        state: TrainState,
        meta: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts saving a TrainState; returns while the files are written in the background.

        Args:
            state: its step names the checkpoint. A step that is saved already is left as it is.
            meta: plain JSON values.
            metrics: name -> float of the evaluation at this step, if there was one.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        items = {
            "params": ocp.args.StandardSave(state.params),
            "optimizer": ocp.args.StandardSave(_optimizer_item(state)),
            "meta": ocp.args.JsonSave(meta),
        }
        if jax.tree.leaves(state.extra):
            items["extra"] = ocp.args.StandardSave(dict(state.extra))
        self._manager.save(
            step,
            args=ocp.args.Composite(**items),
            metrics=self._best_of(metrics or {}) if self._best_metric else None,
        )

    def _best_of(self, metrics: Mapping[str, float]) -> dict[str | None, float]:
        found = find_metric(metrics, self._best_metric)
        return {self._best_metric: float(np.mean(found))} if found else {}

    def lacks_metrics(self, step: int) -> bool:
        """Whether a checkpoint waits for its best metric: it was saved before it was evaluated."""
        file = self.directory / str(step) / "metrics" / "metrics"
        return bool(self._best_metric) and file.exists() and not json.loads(file.read_text())

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds what an evaluation has found to a checkpoint that was saved before it, and removes
        those that are neither among the latest nor the best now.

        Args:
            step: of a checkpoint; one that is gone is left alone.
            metrics: as `save` takes them.
        """
        if not self._best_metric:
            return
        self._manager.wait_until_finished()
        folder = self.directory / str(step) / "metrics"
        if jax.process_index() == 0 and folder.is_dir():
            partial = folder / "metrics.partial"
            partial.write_text(json.dumps(self._best_of(metrics)))
            os.replace(partial, folder / "metrics")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"metrics of step {step}")
        self._manager.reload()
        kept = {*sorted(self._manager.all_steps())[-self._keep_last :], self._manager.best_step()}
        for old in set(self._manager.all_steps()) - kept:
            self._manager.delete(old)

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Restores a TrainState saved at `step`.

        Args:
            step: of a checkpoint.
            abstract: TrainState of jax.ShapeDtypeStruct with the shardings wanted now.

        Raises:
            ValueError: `abstract.extra` asks for what the checkpoint has not.
        """
        self._manager.wait_until_finished()
        folder = self.directory / str(step)
        items = {"params": ocp.args.StandardRestore(abstract.params)}
        wants_extra = bool(jax.tree.leaves(abstract.extra))
        if wants_extra:
            if not (folder / "extra").is_dir():
                raise ValueError(
                    f"checkpoint {folder} has nothing of {', '.join(abstract.extra)}; a run that"
                    " keeps them cannot go on from it, but start from its parameters with"
                    " config.init_from"
                )
            items["extra"] = ocp.args.StandardRestore(dict(abstract.extra))
        moments = ocp.PyTreeCheckpointHandler().metadata(folder / "optimizer").tree
        of_earlier_version = "extra" in moments
        if not of_earlier_version:
            items["optimizer"] = ocp.args.StandardRestore(_optimizer_item(abstract))
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        if of_earlier_version:
            optimizer = restore_without_extra(folder, moments, _optimizer_item(abstract))
        else:
            optimizer = restored.optimizer
        return TrainState(
            params=restored.params,
            extra=restored.extra if wants_extra else abstract.extra,
            **optimizer,
        )

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON values saved beside a checkpoint, the config in the form of today."""
        meta = self._manager.restore(
            step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
        ).meta
        return upgrade_meta(meta)

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.wait_until_finished()
        self._manager.close()


def _optimizer_item(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}


def find_metric(metrics: Mapping[str, float], name: str | None) -> list[float]:
    """The values of a metric.

    Args:
        metrics: mapping such as {"eval/retrieval/emoji_validation/mean_recall": 0.5}.
        name: of one of them; or what all splits of an evaluation have, "retrieval/mean_recall"; or
            its last part, "mean_recall".

    Returns:
        List of values, empty where there is no such metric.
    """
    found = []
    for known, value in metrics.items():
        _, evaluation, *_, metric = known.split("/") if known.count("/") >= 2 else ("", "", known)
        if name in (known, f"{evaluation}/{metric}", metric):
            found.append(value)
    return found


def save_params(
    directory: str | pathlib.Path, params: dict[str, Any], meta: Mapping[str, Any]
) -> None:
    """Saves parameters alone as checkpoint 0 of a new folder: enough for evaluation and warm
    starts, not for resuming.

    Args:
        directory: of the numbered folders.
        params: pure nested dict of numpy arrays, which become jax arrays in place.
        meta: plain JSON values, as `Checkpoints.save` takes them.
    """
    _put_on_host(params)
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1e9
    handlers = {
        "params": ocp.PyTreeCheckpointHandler(save_concurrent_gb=max(0.1, 1.1 * largest)),
        "meta": ocp.JsonCheckpointHandler(),
    }
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(
        pathlib.Path(directory).absolute(), options=options, item_handlers=handlers
    ) as manager:
        manager.save(
            0,
            args=ocp.args.Composite(
                params=ocp.args.PyTreeSave(params), meta=ocp.args.JsonSave(meta)
            ),
        )


def _put_on_host(tree: dict[str, Any]) -> None:
    """Makes jax arrays of numpy arrays one by one: those Orbax copies all before it writes the
    first, these a few at a time.
    """
    for key, value in tree.items():
        if isinstance(value, dict):
            _put_on_host(value)
        else:
            tree[key] = jax.block_until_ready(jax.device_put(value, jax.devices("cpu")[0]))


def find_checkpoint(path: str | pathlib.Path) -> tuple[pathlib.Path, int]:
    """Finds the checkpoint that a path means: a work folder, its `checkpoints`, or one numbered
    checkpoint.

    Returns:
        The folder of checkpoints and the step, the latest one if the path does not name it.

    Raises:
        FileNotFoundError: there is no whole checkpoint.
    """
    path = pathlib.Path(path).expanduser().absolute()
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
    raise FileNotFoundError(
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
        ValueError: its files are damaged, or there are no averaged parameters.
    """

    def __init__(self, path: str | pathlib.Path, *, averaged: bool = False) -> None:
        directory, self.step = find_checkpoint(path)
        self.name = directory / str(self.step)
        # Where the parameters are: an item, and a path within its tree.
        self._item = "extra" if averaged else "params"
        self._root: Path = (AVERAGED,) if averaged else ()
        # Few bytes under way at a time, so that reading adds little to the memory of what is read.
        self._handler = ocp.PyTreeCheckpointHandler(restore_concurrent_gb=1)
        with self._naming_damage():
            meta = ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(self.name / "meta")
            self.meta = upgrade_meta(meta)
        if averaged and not self._has_average():
            raise ValueError(
                f"checkpoint {self.name} has no averaged parameters: its run kept none; train with"
                " --config.optimizer.ema_decay=0.9999, or use the parameters that were trained"
            )
        with self._naming_damage():
            self.shapes = self._read_shapes()

    def _has_average(self) -> bool:
        if not (self.name / "extra").is_dir():
            return False
        with self._naming_damage():
            return AVERAGED in self._handler.metadata(self.name / "extra").tree

    def _read_shapes(self) -> dict[Path, jax.ShapeDtypeStruct]:
        tree = self._handler.metadata(self.name / self._item).tree
        for key in self._root:
            tree = tree[key]
        return {
            path: jax.ShapeDtypeStruct(tuple(leaf.shape), leaf.dtype)
            for path, leaf in flatten(tree).items()
        }

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        # Orbax and TensorStore raise many kinds for files that are missing, cut or changed
        except Exception as error:
            first = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
            raise ValueError(
                f"checkpoint {self.name} is damaged: {type(error).__name__}: {first}; copy it again"
                " or use another step"
            ) from error

    def read(self, paths: Iterable[Path]) -> dict[Path, np.ndarray]:
        """Reads whole parameters to the host of every process."""
        how = ocp.RestoreArgs(restore_type=np.ndarray)
        return self._restore({path: (self.shapes[path], how) for path in paths})

    def read_sharded(self, wanted: Mapping[Path, jax.ShapeDtypeStruct]) -> dict[Path, jax.Array]:
        """Reads parameters straight to their shards: each device gets what it holds and no more.

        Args:
            wanted: path -> jax.ShapeDtypeStruct of the saved shape, with the sharding and type
                wanted now.
        """
        return self._restore(
            {
                path: (
                    leaf,
                    ocp.ArrayRestoreArgs(
                        sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype
                    ),
                )
                for path, leaf in wanted.items()
            }
        )

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
        with self._naming_damage():
            restored = ocp.Checkpointer(self._handler).restore(self.name / self._item, args=args)
        return {path[len(self._root) :]: leaf for path, leaf in flatten(restored).items()}


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
        ValueError: parameters are missing, unexpected or of another shape, and names them; its
            files are damaged; or there are no averaged parameters.
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
            " differ): " + "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        )
    return nnx.traversals.unflatten_mapping(saved.read_sharded(wanted)), saved.step, saved.meta


def abstract_like(shapes: Any, shardings: Any) -> Any:
    """Joins shapes and shardings to one tree of jax.ShapeDtypeStruct."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding),
        shapes,
        shardings,
    )
