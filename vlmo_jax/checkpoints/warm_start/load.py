"""The way in: from a checkpoint, rules and a seed to the first parameters of a run."""

import dataclasses
import logging

import jax
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten, group_names, named_parameters
from vlmo_jax.checkpoints.store import SavedParams
from vlmo_jax.checkpoints.warm_start.plan import check_tokenizer, make_plan

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class WarmStartReport:
    """What a warm start did, in names of `param_names`.

    `resampled` pairs each name with what changed; `fresh` has the rows that a resampled table
    lacked, too.
    """

    checkpoint: str
    step: int
    matched: tuple
    resampled: tuple
    fresh: tuple
    unused: tuple
    idle: tuple

    def summary(self):
        """A few lines for the console."""
        resampled = ", ".join(f"{name} ({change})" for name, change in self.resampled) or "none"
        lines = [
            f"Warm start from {self.checkpoint}",
            f"  {len(self.matched)} parameters as they were: {_counted(self.matched)}",
            f"  {len(self.resampled)} resampled: {resampled}",
            f"  {len(self.fresh)} fresh from the seed: {_counted(self.fresh)}",
            f"  {len(self.unused)} of the checkpoint left out: {_counted(self.unused)}",
        ]
        return lines + (
            [f"  patterns that match nothing: {', '.join(self.idle)}"] if self.idle else []
        )

    def details(self):
        """A line a parameter, for the log."""
        resampled = [f"resampled {name}: {change}" for name, change in self.resampled]
        return resampled + [
            f"{kind} {name}"
            for kind in ("matched", "fresh", "unused")
            for name in getattr(self, kind)
        ]


def _counted(names):
    return (
        ", ".join(
            f"{group} ({len(inside)})" if inside else group
            for group, inside in group_names(names).items()
        )
        or "none"
    )


def warm_start(path, abstract_params, initialise, *, rules, fresh, model, tokenizer=None):
    """Makes the first parameters of a run from those of a checkpoint.

    Args:
        path: of a run or a checkpoint, see `checkpoint.find_checkpoint`.
        abstract_params: nested dict of jax.ShapeDtypeStruct with the shardings wanted.
        initialise: function of no arguments, traced, to a nested dict of the same shape: the seed's
            own parameters. What the checkpoint fills is not computed.
        rules, fresh: `config.init_rules` and `config.init_fresh`, see `plan.make_plan`.
        model: mapping, `config.model` of the run.
        tokenizer: mapping with `file` and `sha256` of the run's tokenizer; None for a run without
            texts.

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
        plan, saved=saved.meta.get("tokenizer"), wanted=tokenizer, checkpoint=saved.name
    )
    leaves = _fill(saved, source, target, wanted, plan, initialise)
    params = {
        keys: leaves[tuple(map(str, keys))]
        for keys in nnx.traversals.flatten_mapping(abstract_params)
    }
    report = _report(saved, plan)
    for line in report.details():
        log.info("%s", line)
    return nnx.traversals.unflatten_mapping(params), report


def _report(saved, plan):
    resized = {name: fill.resize for name, fill in plan.fills.items() if fill.resize}
    return WarmStartReport(
        checkpoint=str(saved.name),
        step=saved.step,
        matched=tuple(name for name in plan.fills if name not in resized),
        resampled=tuple((name, resize.detail) for name, resize in resized.items()),
        fresh=plan.fresh,
        unused=plan.unused,
        idle=plan.idle,
    )


def _fill(saved, source, target, wanted, plan, initialise):
    """All arrays of the model by path; what needs most memory beside itself comes first, while
    little else is there.
    """
    parts = {}
    for name, param in target.items():
        for slot in param.slots:
            parts.setdefault(slot.path, []).append((slot, plan.fills.get(name)))
    seeded = [
        path
        for path, fills in parts.items()
        if any(not fill or fill.resize and fill.resize.fresh_part for _, fill in fills)
    ]
    arrays = _initial(initialise, {path: wanted[path].sharding for path in seeded})
    direct = {
        path: twin
        for path in parts
        if (twin := _twin(wanted[path], parts[path], source, saved.shapes))
    }
    by_size = sorted(parts, key=lambda path: -np.prod(wanted[path].shape))
    mixed = [
        path for path in by_size if path not in direct and any(fill for _, fill in parts[path])
    ]
    needs = {
        path: {slot.path for _, fill in parts[path] if fill for slot in source[fill.source].slots}
        for path in mixed
    }
    host = {}
    for number, path in enumerate(mixed):
        host.update(saved.read(sorted(needs[path] - set(host))))
        values, filled = _compose(wanted[path], parts[path], source, host)
        later = set().union(*(needs[other] for other in mixed[number + 1 :]))
        host = {leaf: array for leaf, array in host.items() if leaf in later}
        arrays[path] = _place(wanted[path], values, filled, arrays.get(path))
    for path in filter(
        direct.get, by_size
    ):  # one at a time: read together, they take twice their memory for a while
        arrays[path] = saved.read_sharded({direct[path]: wanted[path]})[direct[path]]
    return arrays


def _initial(initialise, shardings):
    """The seed's own values of some parameters, in their shards; the compiler drops the others."""
    if not shardings:
        return {}
    names = {"/".join(path): path for path in shardings}
    leaves = jax.jit(
        lambda: (lambda flat: {name: flat[path] for name, path in names.items()})(
            flatten(initialise())
        ),
        out_shardings={name: shardings[path] for name, path in names.items()},
    )()
    return {path: leaves[name] for name, path in names.items()}


def _twin(leaf, parts, source, shapes):
    """The saved array that holds exactly what an array of the model is to hold, in the same places,
    or None.
    """
    twins = []
    for slot, fill in parts:
        if not fill or fill.resize:
            return None
        twins.append({twin.path for twin in source[fill.source].slots if twin[1:] == slot[1:]})
    shared = set.intersection(*twins)
    return next((path for path in shared if shapes[path].shape == leaf.shape), None)


def _compose(leaf, parts, source, host):
    """An array of the model on the host, and which of its values the checkpoint fills."""
    values, filled = np.empty(leaf.shape, leaf.dtype), np.zeros(leaf.shape, bool)
    for slot, fill in parts:
        if not fill:
            continue
        here, mark = slot.view(values), slot.view(filled)
        slots = source[fill.source].slots
        if fill.resize:
            here[0], mark[0] = fill.resize.apply(host[slots[0].path])
            continue
        mark[...] = True
        for place in slots:
            first, last = max(slot.start, place.start), min(slot.stop, place.stop)
            if first < last:
                here[first - slot.start : last - slot.start] = place.view(host[place.path])[
                    first - place.start : last - place.start
                ]
    return values, filled


def _place(leaf, values, filled, seeded):
    """Puts an array of the host in its shards, over the seed's values where it is not filled."""
    if filled.all():
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: values[index])
    shards = []
    for shard in seeded.addressable_shards:
        data = np.array(shard.data)
        np.copyto(data, values[shard.index], where=filled[shard.index])
        shards.append(jax.device_put(data, shard.device))
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
