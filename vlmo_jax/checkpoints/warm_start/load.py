"""The way in: from a checkpoint, rules and a seed to the first parameters of a run."""

import dataclasses
import logging
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import (
    TRANSFORMER,
    NamedParameter,
    Path,
    Slot,
    flatten,
    group_names,
    named_parameters,
    towers_of,
)
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.checkpoints.warm_start.numbered import check_lists, check_tokenizer
from vlmo_jax.checkpoints.warm_start.plan import Plan, make_plan
from vlmo_jax.checkpoints.warm_start.resize import ADDED_ROWS, Resize
from vlmo_jax.parallel.compiler_options import compiler_options

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What a warm start did, in names of `param_names`.

    `resampled` pairs each name with what changed; `fresh` has the rows that a resampled table
    lacked, too; `idle` are patterns that match nothing. `towers`: see `param_names.towers_of`.
    """

    checkpoint: str
    step: int
    matched: tuple[str, ...]
    resampled: tuple[tuple[str, str], ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    idle: tuple[str, ...]
    towers: frozenset[Path] = frozenset({TRANSFORMER})

    def summary(self) -> list[str]:
        """A few lines for the console."""
        resampled = ", ".join(f"{name} ({change})" for name, change in self.resampled) or "none"
        lines = [
            f"Warm start from {self.checkpoint}",
            f"  {len(self.matched)} parameters as they were: {self._counted(self.matched)}",
            f"  {len(self.resampled)} resampled: {resampled}",
            f"  {len(self.fresh)} fresh from the seed: {self._counted(self.fresh)}",
            f"  {len(self.unused)} of the checkpoint left out: {self._counted(self.unused)}",
        ]
        if self.idle:
            lines.append(f"  patterns that match nothing: {', '.join(self.idle)}")
        return lines

    def details(self) -> list[str]:
        """A line a parameter, for the log."""
        resampled = [f"resampled {name}: {change}" for name, change in self.resampled]
        return resampled + [
            f"{kind} {name}"
            for kind in ("matched", "fresh", "unused")
            for name in getattr(self, kind)
        ]

    def _counted(self, names: Iterable[str]) -> str:
        groups = group_names(names, self.towers)
        counted = [
            f"{group} ({len(inside)})" if inside else group for group, inside in groups.items()
        ]
        return ", ".join(counted) or "none"


def warm_start(
    path: str | pathlib.Path,
    abstract_params: Any,
    initialise: Callable[[], Any],
    *,
    rules: Sequence[Sequence[str]],
    fresh: Sequence[str],
    model: Mapping[str, Any],
    tokenizer: Mapping[str, str] | None = None,
    lists: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], WarmStartReport]:
    """Makes the first parameters of a run from those of a checkpoint.

    Args:
        path: of a run or a checkpoint, see `saved_params.find_checkpoint`.
        abstract_params: nested dict of jax.ShapeDtypeStruct with the shardings wanted.
        initialise: function of no arguments, traced, to a nested dict of the same shape: the seed's
            own parameters. What the checkpoint fills is not computed.
        rules, fresh: `config.init_rules` and `config.init_fresh`, see `plan.make_plan`.
        model: mapping, `config.model` of the run.
        tokenizer: mapping with `file` and `sha256` of the run's tokenizer; None for a run without
            texts.
        lists: preprocessing of the run, which says by what lists its heads answer.

    Returns:
        The parameters as a nested dict, and a WarmStartReport.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: a damaged checkpoint, one of another size, stage, tokenizer or vocabulary, or
            parameters that the rules leave unexplained. Nothing is compiled before.
    """
    saved = SavedParams(path)
    meta = saved.meta.get("config", {}).get("model")
    if not meta:
        raise ValueError(
            f"checkpoint {saved.name} has no config.model in its meta; it was not saved by vlmo_jax"
        )
    wanted = flatten(abstract_params)
    source, target = named_parameters(saved.shapes), named_parameters(wanted)
    plan = make_plan(
        source,
        target,
        rules=rules,
        fresh=fresh,
        source_model=meta,
        model=model,
        checkpoint=saved.name,
    )
    check_tokenizer(
        plan.fills, saved=saved.meta.get("tokenizer"), wanted=tokenizer, checkpoint=saved.name
    )
    trained = saved.meta.get("preprocessing") or {}
    check_lists(plan.fills, saved=trained, wanted=lists or {}, checkpoint=saved.name)
    arrays = _list_arrays(saved, source, target, wanted, plan)
    leaves = _fill(saved, arrays, initialise)
    params = {
        keys: leaves[tuple(map(str, keys))]
        for keys in nnx.traversals.flatten_mapping(abstract_params)
    }
    report = _report(saved, plan, towers_of(source) | towers_of(target))
    for line in report.details():
        log.info("%s", line)
    return nnx.traversals.unflatten_mapping(params), report


def _report(saved: SavedParams, plan: Plan, towers: frozenset[Path]) -> WarmStartReport:
    resized = {name: fill.resize for name, fill in plan.fills.items() if fill.resize}
    return WarmStartReport(
        checkpoint=str(saved.name),
        step=saved.step,
        matched=tuple(name for name in plan.fills if name not in resized | dict(plan.added)),
        resampled=tuple((name, resize.detail) for name, resize in resized.items())
        + tuple((name, f"with {adding} added") for name, adding in plan.added.items()),
        fresh=plan.fresh,
        unused=plan.unused,
        idle=plan.idle,
        towers=towers,
    )


class _Part(NamedTuple):
    """A part of an array of the model, and the slots of the checkpoint that fill it, none where the
    seed does; `added` is what a row of is added to that, and the row.
    """

    slot: Slot
    sources: tuple[Slot, ...]
    resize: Resize | None
    added: tuple[Path, int] | None = None

    @property
    def needs_seed(self) -> bool:
        return not self.sources or bool(self.resize and self.resize.fresh_part)


@dataclasses.dataclass(frozen=True)
class _Array:
    """An array of the model, with the parts that it is put together from.

    Attributes:
        path: in the model.
        leaf: shape, type and sharding.
        parts: together the whole array.
        twin: path of the saved array that is to be this one as it is, or None.
    """

    path: Path
    leaf: jax.ShapeDtypeStruct
    parts: tuple[_Part, ...]
    twin: Path | None

    @property
    def needs_seed(self) -> bool:
        return any(part.needs_seed for part in self.parts)

    @property
    def sources(self) -> set[Path]:
        """Paths of the saved arrays that fill a part of it."""
        filling = {slot.path for part in self.parts for slot in part.sources}
        return filling | {part.added[0] for part in self.parts if part.added}


def _list_arrays(
    saved: SavedParams,
    source: Mapping[str, NamedParameter],
    target: Mapping[str, NamedParameter],
    wanted: Mapping[Path, jax.ShapeDtypeStruct],
    plan: Plan,
) -> list[_Array]:
    """All arrays of the model, largest first."""
    parts: dict[Path, list[_Part]] = {}
    for name, param in target.items():
        fill = plan.fills.get(name)
        for slot in param.slots:
            sources, resize = (source[fill.source].slots, fill.resize) if fill else ((), None)
            adding = plan.added.get(name)
            added = (source[adding].slots[0].path, ADDED_ROWS[adding]) if adding else None
            parts.setdefault(slot.path, []).append(_Part(slot, sources, resize, added))
    arrays = [
        _Array(path, wanted[path], tuple(own), _find_twin(wanted[path], own, saved.shapes))
        for path, own in parts.items()
    ]
    return sorted(arrays, key=lambda array: -math.prod(array.leaf.shape))


def _find_twin(
    leaf: jax.ShapeDtypeStruct,
    parts: Sequence[_Part],
    shapes: Mapping[Path, jax.ShapeDtypeStruct],
) -> Path | None:
    """The saved array that holds exactly what an array of the model is to hold, in the same places,
    or None.
    """
    if any(part.resize or part.added for part in parts):
        return None
    candidates = [
        {place.path for place in part.sources if place[1:] == part.slot[1:]} for part in parts
    ]
    shared = set.intersection(*candidates)
    return next((path for path in shared if shapes[path].shape == leaf.shape), None)


def _fill(
    saved: SavedParams, arrays: Sequence[_Array], initialise: Callable[[], Any]
) -> dict[Path, jax.Array]:
    """The arrays of the model by path. What needs most memory beside itself comes first, while
    little else is there: what is initialised, then what is put together on the host, then what is
    read straight to its shards.
    """
    seeded = [array for array in arrays if array.needs_seed]
    filled = _initialise(initialise, {array.path: array.leaf.sharding for array in seeded})
    mixed = [array for array in arrays if array.sources and not array.twin]
    host: dict[Path, np.ndarray] = {}
    for number, array in enumerate(mixed):
        host.update(saved.read(sorted(array.sources - set(host))))
        values, mask = _compose(array, host)
        needed_later = {path for later in mixed[number + 1 :] for path in later.sources}
        host = {path: host[path] for path in host if path in needed_later}
        filled[array.path] = _place(array.leaf, values, mask, filled.get(array.path))
    # One at a time: read together, they take twice their memory for a while.
    for array in arrays:
        if array.twin:
            filled[array.path] = saved.read_sharded({array.twin: array.leaf})[array.twin]
    return filled


def _initialise(
    initialise: Callable[[], Any], shardings: Mapping[Path, Any]
) -> dict[Path, jax.Array]:
    """The seed's own values of some parameters, in their shards; the compiler drops the others."""
    if not shardings:
        return {}

    def chosen() -> dict[Path, jax.Array]:
        params = flatten(initialise())
        return {path: params[path] for path in shardings}

    options = compiler_options(next(iter(shardings.values())).device_set)
    return jax.jit(chosen, out_shardings=dict(shardings), compiler_options=options)()


def _compose(array: _Array, host: Mapping[Path, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """An array of the model on the host, and which of its values the checkpoint fills."""
    values = np.empty(array.leaf.shape, array.leaf.dtype)
    filled = np.zeros(array.leaf.shape, bool)
    for slot, sources, resize, added in array.parts:
        here, mark = slot.view(values), slot.view(filled)
        if resize:
            here[0], mark[0] = resize.apply(host[sources[0].path])
            continue
        for place in sources:
            first, last = max(slot.start, place.start), min(slot.stop, place.stop)
            if first < last:
                layers = place.view(host[place.path])
                here[first - slot.start : last - slot.start] = layers[
                    first - place.start : last - place.start
                ]
        mark[...] = bool(sources)
        if added:
            path, row = added
            here += host[path][row]
    return values, filled


def _place(
    leaf: jax.ShapeDtypeStruct, values: np.ndarray, filled: np.ndarray, seeded: Any
) -> jax.Array:
    """Puts an array of the host in its shards, over the seed's values where it is not filled."""
    if filled.all():
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: values[index])
    shards = []
    for shard in seeded.addressable_shards:
        data = np.array(shard.data)
        np.copyto(data, values[shard.index], where=filled[shard.index])
        shards.append(jax.device_put(data, shard.device))
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
