"""Checkpoints with Orbax: saved in the background, restored exactly, on any mesh and process count.

A checkpoint has these items: `params` (all that evaluation and warm starts need), `optimizer`
(step and moments), `extra` (what a state has beside these, averaged parameters for one; only where
there is something) and `meta` (the config, the preprocessing, the tokenizer's fingerprint). There
is no data position to save: what a step reads is a function of the seed and the step. With the meta
go digests of all arrays, by which damage is noticed when they are read.

Version 0.1 had `extra` within `optimizer`, with the frozen visual tokenizer of stage 1 in it; such
checkpoints are restored without reading that.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vlmo_jax.checkpoints.damage import (
    DamagedCheckpointError,
    check_arrays,
    naming_damage,
    seal,
    unseal,
)
from vlmo_jax.checkpoints.digests import digest_arrays
from vlmo_jax.checkpoints.earlier import restore_without_extra, upgrade_meta
from vlmo_jax.checkpoints.param_names import Path, flatten
from vlmo_jax.checkpoints.plain_paths import plain_path
from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.commands.endings import UserError
from vlmo_jax.parallel.agreement import wait_for_all

ITEMS = ("params", "optimizer", "extra", "meta")
DAMAGED = "damaged_checkpoints"  # folder in the work folder for those that were set aside


class NotFiniteError(UserError, ValueError):
    """Parameters that are NaN or infinite are not saved."""


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
        self._manager = ocp.CheckpointManager(
            plain_path(self.directory), options=options, item_names=ITEMS
        )

    def _score(self, metrics: Mapping[Any, float]) -> float:
        score = metrics.get(self._best_metric, -math.inf)
        return score if math.isfinite(score) else -math.inf

    def latest_step(self) -> int | None:
        """Step of the latest whole checkpoint, or None."""
        return self._manager.latest_step()

    def check_resumable(self, step: int) -> None:
        """Raises ValueError for a checkpoint of parameters alone, as `save_params` makes them."""
        self._read_tree(step, "optimizer", self._unsealed(step)[1])

    def damaged(self) -> list[pathlib.Path]:
        """The damaged checkpoints that were set aside."""
        return sorted(self._aside.iterdir()) if self._aside.is_dir() else []

    @property
    def _aside(self) -> pathlib.Path:
        return self.directory.parent / DAMAGED

    def set_aside(self, step: int) -> pathlib.Path:
        """Moves a damaged checkpoint out of the way; one process of a job does so, then all
        `reload`.

        Returns:
            Where it is now: in the folder DAMAGED beside that of the checkpoints.
        """
        self._aside.mkdir(exist_ok=True)
        names = (f"{step}" if not n else f"{step}_{n}" for n in range(len(self.damaged()) + 1))
        place = next(self._aside / name for name in names if not (self._aside / name).exists())
        return (self.directory / str(step)).rename(place)

    def reload(self) -> None:
        """Looks for the checkpoints anew."""
        self._manager.reload()

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
        trees = {"params": state.params, "optimizer": _optimizer_item(state)}
        if jax.tree.leaves(state.extra):
            trees["extra"] = dict(state.extra)
        items = {item: ocp.args.StandardSave(tree) for item, tree in trees.items()}
        items["meta"] = ocp.args.JsonSave(seal(meta, _digest_items(trees)))
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
        wait_for_all(f"metrics of step {step}")
        self._manager.reload()
        kept = {*sorted(self._manager.all_steps())[-self._keep_last :], self._manager.best_step()}
        for old in set(self._manager.all_steps()) - kept:
            self._manager.delete(old)

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """Restores a TrainState saved at `step`, and verifies it.

        Args:
            step: of a checkpoint.
            abstract: TrainState of jax.ShapeDtypeStruct with the shardings wanted now.

        Raises:
            DamagedCheckpointError: its files are not as they were written.
            ValueError: it holds other arrays than `abstract` asks for.
        """
        self._manager.wait_until_finished()
        folder, (_, digests) = self.directory / str(step), self._unsealed(step)
        wanted = {"params": abstract.params, "optimizer": _optimizer_item(abstract)}
        if jax.tree.leaves(abstract.extra):
            wanted["extra"] = dict(abstract.extra)
        saved = {item: self._read_tree(step, item, digests, tree) for item, tree in wanted.items()}
        of_earlier_version = "extra" in saved["optimizer"]
        for item in wanted:
            if not (of_earlier_version and item == "optimizer"):
                _check_same_arrays(folder, item, saved[item], wanted[item])
        with naming_damage(folder):
            trees = self._restore_items(step, wanted, of_earlier_version)
        if digests is not None:
            for item, found in _digest_items(trees).items():
                check_arrays(folder, item, found, digests.get(item, {}))
        extra = trees.get("extra", abstract.extra)
        return TrainState(params=trees["params"], extra=extra, **trees["optimizer"])

    def _restore_items(
        self, step: int, wanted: Mapping[str, Any], of_earlier_version: bool
    ) -> dict[str, Any]:
        whole = [item for item in wanted if not (of_earlier_version and item == "optimizer")]
        args = {item: ocp.args.StandardRestore(wanted[item]) for item in whole}
        restored = self._manager.restore(step, args=ocp.args.Composite(**args))
        trees = {item: restored[item] for item in whole}
        if of_earlier_version:
            folder = plain_path(self.directory) / str(step)
            moments = ocp.PyTreeCheckpointHandler().metadata(folder / "optimizer").tree
            trees["optimizer"] = restore_without_extra(folder, moments, wanted["optimizer"])
        return trees

    def _read_tree(
        self, step: int, item: str, digests: Mapping[str, Mapping] | None, wanted: Any = None
    ) -> dict[str, Any]:
        """The arrays of an item, as Orbax describes them.

        Raises:
            DamagedCheckpointError: the item was saved, and cannot be read.
            ValueError: it was not saved.
        """
        folder = self.directory / str(step)
        if not (folder / item).is_dir():
            if item == "params" or item in (digests or {}):
                raise DamagedCheckpointError(folder, f"{item} is missing")
            what = "holds parameters alone, as a converted checkpoint does"
            if item == "extra":
                what = f"has nothing of {', '.join(wanted)}; a run that keeps them needs it"
            raise ValueError(
                f"checkpoint {folder} {what}: no such run can go on there; start from its"
                f" parameters with --config.init_from={self.directory.parent} and another --workdir"
            )
        with naming_damage(folder):
            path = plain_path(self.directory) / str(step) / item
            return ocp.PyTreeCheckpointHandler().metadata(path).tree

    def meta(self, step: int) -> dict[str, Any]:
        """The JSON values saved beside a checkpoint, the config in the form of today.

        Raises:
            DamagedCheckpointError: they are not as they were written.
        """
        return upgrade_meta(self._unsealed(step)[0])

    def _unsealed(self, step: int) -> tuple[dict[str, Any], dict[str, dict[Path, str]] | None]:
        folder = self.directory / str(step)
        if not (folder / "meta").is_dir():
            raise DamagedCheckpointError(folder, "meta is missing")
        with naming_damage(folder):
            args = ocp.args.Composite(meta=ocp.args.JsonRestore())
            sealed = self._manager.restore(step, args=args).meta
        return unseal(folder, sealed)

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.wait_until_finished()
        self._manager.close()


def _optimizer_item(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "opt_state": state.opt_state}


def _digest_items(trees: Mapping[str, Any]) -> dict[str, dict[Path, str]]:
    return {item: digest_arrays(array_paths(tree)) for item, tree in trees.items()}


def array_paths(tree: Any) -> dict[Path, Any]:
    """The arrays of a state or an item by path, as Orbax names them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        tuple(jax.tree_util.keystr((key,), simple=True) for key in path): leaf
        for path, leaf in leaves
    }


def _check_same_arrays(
    folder: pathlib.Path, item: str, tree: Mapping[str, Any], wanted: Any
) -> None:
    saved = {path: tuple(leaf.shape) for path, leaf in array_paths(tree).items()}
    here = {path: tuple(leaf.shape) for path, leaf in array_paths(wanted).items()}
    others = [path for path in sorted({*saved, *here}) if saved.get(path) != here.get(path)]
    if others:
        some = ", ".join("/".join((item, *path)) for path in others[:3])
        raise ValueError(
            f"checkpoint {folder} has other arrays than this run ({len(others)} differ: {some});"
            " use another --workdir"
        )


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

    Raises:
        NotFiniteError: a parameter holds NaN or infinite values.
    """
    for path, array in flatten(params).items():
        if not np.isfinite(array).all():
            raise NotFiniteError(
                f"{'/'.join(path)} has values that are NaN or infinite; a model with such"
                " parameters is of no use, so it is not saved: look at where they come from"
            )
    _put_on_host(params)
    largest = max(leaf.nbytes for leaf in jax.tree.leaves(params)) / 1e9
    handlers = {
        "params": ocp.PyTreeCheckpointHandler(save_concurrent_gb=max(0.1, 1.1 * largest)),
        "meta": ocp.JsonCheckpointHandler(),
    }
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with ocp.CheckpointManager(
        plain_path(pathlib.Path(directory).absolute()), options=options, item_handlers=handlers
    ) as manager:
        sealed = seal(meta, _digest_items({"params": params}))
        manager.save(
            0,
            args=ocp.args.Composite(
                params=ocp.args.PyTreeSave(params), meta=ocp.args.JsonSave(sealed)
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


def abstract_like(shapes: Any, shardings: Any) -> Any:
    """Joins shapes and shardings to one tree of jax.ShapeDtypeStruct."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding),
        shapes,
        shardings,
    )
