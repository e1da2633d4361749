"""The optimizer: transformers' AdamW, learning-rate schedules, and rules by parameter path."""

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.config_errors import ConfigError, one_of, require
from vlmo_jax.commands.fields import (
    Choice,
    Extra,
    Flag,
    Kind,
    Number,
    Regex,
    Rule,
    Several,
    Whole,
    check_fields,
)
from vlmo_jax.training.layer_decay import layer_factors
from vlmo_jax.training.partition import Partition

log = logging.getLogger(__name__)

SCHEDULES = ("polynomial", "cosine", "constant")

# Decay rate of moments that bfloat16 can hold: 1 less this must be several times half of its
# spacing, 2 ** -8, or a moment that should move is rounded back to where it was.
SLOWEST_BFLOAT16 = 0.98

_REGEXES = Several(Regex(), what="regular expressions in brackets with a comma behind each")

# What the fields of `config.optimizer` may be.
FIELDS: dict[str, Kind] = {
    "learning_rate": Number(above=0),
    "schedule": Choice(SCHEDULES),
    "power": Number(above=0),
    "warmup_steps": Whole(),
    "end_learning_rate": Number(low=0),
    "betas": Several(Number(low=0, below=1), 2, "two numbers in [0, 1)"),
    "epsilon": Number(above=0),
    "weight_decay": Number(low=0, zero="none"),
    "no_decay": _REGEXES,
    "rate_multipliers": Several(
        Rule(Number(low=0)), what="pairs (regular expression, factor) with a comma behind each"
    ),
    "clip_norm": Number(low=0, zero="off"),
    "frozen": _REGEXES,
    "layer_decay": Number(above=0, high=1),
    "ema_decay": Number(low=0, below=1, zero="no averages"),
    "float32_sums": Extra(Flag()),
    "bfloat16_moments": Extra(Flag()),
    "limits": Extra(
        Several(
            Rule(Several(Number(), 2, "two numbers, least and most")),
            what="pairs (regular expression, (least, most)) with a comma behind each",
        )
    ),
}


def match_rules(params: Any, rules: Sequence[tuple[str, Any]], *, key: str) -> dict[str, Any]:
    """Applies rules (path regex, value) to parameters; the first rule that matches a whole path
    wins.

    Paths are those of stored arrays, such as `transformer/lower/attention/qkv`: a rule speaks of
    all layers and experts of a stack.

    Args:
        params: pure parameter tree.
        rules: sequence of (regex, value).
        key: name of the config key the rules come from, for messages.

    Returns:
        A tree like `params` of values.

    Raises:
        ConfigError: a rule that matches no parameter, or a parameter that no rule covers. A last
            rule ".*" may find nothing left.
    """
    flat = nnx.traversals.flatten_mapping(params)
    values, matched = {}, [0] * len(rules)
    for path in flat:
        name = "/".join(map(str, path))
        number = next((n for n, (regex, _) in enumerate(rules) if re.fullmatch(regex, name)), None)
        if number is None:
            raise ConfigError(
                f"config.{key}: no rule covers parameter {name}; end the rules with '.*'"
            )
        values[path] = rules[number][1]
        matched[number] += 1
    rest = rules[-1:] if rules and rules[-1][0] == ".*" else ()
    for (regex, value), count in zip(rules, matched, strict=True):
        if not count and (regex, value) not in rest:
            raise ConfigError(
                f"config.{key}: {regex!r} matches no parameter (or none that earlier rules left);"
                f" paths: {', '.join('/'.join(map(str, p)) for p in list(flat)[:8])} ..."
            )
        log.info("config.%s: %s -> %s (%d parameters)", key, regex, value, count)
    return nnx.traversals.unflatten_mapping(values)


def check_optimizer(optimizer: Mapping[str, Any]) -> None:
    """Refuses impossible values of `config.optimizer`.

    Raises:
        ConfigError: at the first of them.
    """
    check_fields("optimizer", optimizer, FIELDS, closed=True)
    require(
        not optimizer.get("bfloat16_moments") or max(optimizer["betas"]) <= SLOWEST_BFLOAT16,
        "config.optimizer.bfloat16_moments=True cannot be with config.optimizer.betas="
        f"{optimizer['betas']}, which change a moment by less than bfloat16 can hold; use betas of"
        f" at most {SLOWEST_BFLOAT16}, or float32 moments",
    )


def check_schedule(name: str, warmup_steps: int, total_steps: int) -> None:
    """Raises ConfigError unless a learning rate can take this way through a run."""
    one_of("optimizer.schedule", name, SCHEDULES)
    require(
        0 <= warmup_steps < total_steps,
        f"config.optimizer.warmup_steps={warmup_steps} must be at least 0 and less than"
        f" config.steps={total_steps}",
    )


def learning_rate_schedule(
    name: str,
    *,
    peak: float,
    warmup_steps: int,
    total_steps: int,
    end: float = 0.0,
    power: float = 1.0,
) -> optax.Schedule:
    """Learning rate by step: linear warm-up from 0, so the first step has rate 0, then decay to
    `end`.

    Args:
        name: "polynomial", "cosine" or "constant", the shape after warm-up.
        peak: rate at the end of the warm-up.
        warmup_steps, total_steps: optimizer updates.
        end: rate at `total_steps`.
        power: of the polynomial; 1 is a straight line.

    Raises:
        ConfigError: unknown name, or a warm-up as long as the run.
    """
    check_schedule(name, warmup_steps, total_steps)
    decay_steps = total_steps - warmup_steps
    decay = {
        "polynomial": lambda: optax.polynomial_schedule(peak, end, power, decay_steps),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay_steps, alpha=end / peak),
        "constant": lambda: optax.constant_schedule(peak),
    }[name]()
    return optax.join_schedules(
        [optax.linear_schedule(0.0, peak, max(warmup_steps, 1)), decay], [warmup_steps]
    )


class AdamWState(NamedTuple):
    """Updates so far, and both moments as trees like the parameters."""

    count: jax.Array  # type: ignore[assignment]  # optax's name, and that of checkpoints
    mean: optax.Updates
    variance: optax.Updates


def adamw(
    schedule: optax.Schedule,
    *,
    betas: tuple[float, float],
    epsilon: float,
    decay: Any,
    multiplier: Any,
    moments: DTypeLike = jnp.float32,
) -> optax.GradientTransformation:
    """AdamW as transformers' own class, which trained the published weights.

    It differs from `optax.adamw` in two ways: epsilon is added to sqrt(v) before the bias
    correction, and decay acts after the update, p -= lr * decay * p_new.

    Args:
        schedule: step -> learning rate; the first update uses step 0.
        betas: decay rates of both moments.
        epsilon: see above.
        decay: tree like the parameters of weight-decay factors.
        multiplier: tree like the parameters that multiplies the learning rate: numbers, or arrays
            that broadcast over the parameter.
        moments: type in which both moments are kept; updates are made in float32.
    """
    beta1, beta2 = betas
    kept = functools.partial(jax.tree.map, lambda x: x.astype(moments))

    def init(params: Any) -> AdamWState:
        zeros = functools.partial(jnp.zeros_like, dtype=moments)
        mean, variance = (jax.tree.map(zeros, params) for _ in range(2))
        return AdamWState(jnp.zeros((), jnp.int32), mean, variance)

    def update(grads: Any, state: AdamWState, params: Any) -> tuple[Any, AdamWState]:
        count = state.count + 1
        mean = jax.tree.map(
            lambda m, g: beta1 * m.astype(g.dtype) + (1 - beta1) * g, state.mean, grads
        )
        variance = jax.tree.map(
            lambda v, g: beta2 * v.astype(g.dtype) + (1 - beta2) * g * g, state.variance, grads
        )
        rate = schedule(state.count)
        correction = jnp.sqrt(1 - beta2 ** count.astype(jnp.float32)) / (
            1 - beta1 ** count.astype(jnp.float32)
        )

        def step(p, m, v, decay, multiplier):
            moved = -rate * multiplier * correction * m / (jnp.sqrt(v) + epsilon)
            return moved - rate * multiplier * decay * (p + moved)

        updates = jax.tree.map(step, params, mean, variance, decay, multiplier)
        return updates, AdamWState(count, kept(mean), kept(variance))

    return optax.GradientTransformation(init, update)


def keep_within(least: Any, most: Any) -> optax.GradientTransformation:
    """Cuts updates so that no parameter leaves its range; comes last.

    Args:
        least, most: trees like the parameters, of numbers, infinite where there is no bound.
    """

    def update(updates: Any, state: optax.EmptyState, params: Any) -> tuple[Any, optax.EmptyState]:
        def cut(u, p, low, high):
            return u if low == -math.inf and high == math.inf else jnp.clip(p + u, low, high) - p

        return jax.tree.map(cut, updates, params, least, most), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How parameters are updated.

    Attributes:
        transform: the optax transformation of what trains.
        schedule: step -> learning rate.
        partition: what trains; None: everything.
        ema_decay: of the averaged parameters that are kept beside the trained ones; 0: none are.
        float32_sums: gradients are summed in float32, not in the compute type.
    """

    transform: optax.GradientTransformation
    schedule: optax.Schedule
    partition: Partition | None = None
    ema_decay: float = 0.0
    float32_sums: bool = False

    def trainable(self, params: Any) -> Any:
        """The tree of what trains."""
        return params if self.partition is None else self.partition.trainable(params)

    def insert(self, params: Any, trainable: Any) -> Any:
        """`params` with what trains replaced by `trainable`."""
        return trainable if self.partition is None else self.partition.insert(params, trainable)


def make_optimizer(
    params: Any,
    *,
    schedule: str,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    end_learning_rate: float,
    betas: Sequence[float],
    epsilon: float,
    weight_decay: float,
    power: float,
    no_decay: Sequence[str],
    rate_multipliers: Sequence[tuple[str, float]],
    clip_norm: float,
    frozen: Sequence[str] = (),
    layer_decay: float = 1.0,
    ema_decay: float = 0.0,
    float32_sums: bool = False,
    bfloat16_moments: bool = False,
    limits: Sequence[tuple[str, tuple[float, float]]] = (),
) -> Optimizer:
    """Builds the optimizer of a recipe; arguments are the fields of `config.optimizer`.

    Args:
        params: pure tree of (abstract) parameters, for the rules.
        schedule, learning_rate, warmup_steps, total_steps, end_learning_rate, power: see
            `learning_rate_schedule`.
        betas, epsilon: see `adamw`.
        weight_decay: of all parameters but those of `no_decay`.
        no_decay: regexes of parameter paths without weight decay.
        rate_multipliers: (regex, factor) pairs; everything else has factor 1.
        clip_norm: gradients are scaled down to this global norm; 0: never.
        frozen: regexes of parameters that do not train (see partition.py).
        layer_decay: each layer learns that much slower than the one above it, on top of
            `rate_multipliers` (see layer_decay.py); 1: all alike.
        ema_decay, float32_sums: see `Optimizer`.
        bfloat16_moments: both moments are kept in bfloat16.
        limits: (regex, (least, most)) pairs, between which every update leaves a parameter: a
            contrast's scale, say.

    Raises:
        ConfigError: names the field that makes no sense, or rules that match nothing.
    """
    rates = learning_rate_schedule(
        schedule,
        peak=learning_rate,
        warmup_steps=warmup_steps,
        total_steps=total_steps,
        end=end_learning_rate,
        power=power,
    )
    decay_rules = [(regex, 0.0) for regex in no_decay] + [(".*", float(weight_decay))]
    rate_rules = [(regex, float(factor)) for regex, factor in rate_multipliers] + [(".*", 1.0)]
    decay = match_rules(params, decay_rules, key="optimizer.no_decay")
    multiplier = match_rules(params, rate_rules, key="optimizer.rate_multipliers")
    if layer_decay != 1:
        factors = layer_factors(params, layer_decay)
        multiplier = jax.tree.map(lambda rate, factor: rate * factor, multiplier, factors)
    partition = Partition.by_rules(params, tuple(frozen)) if frozen else None
    if partition is not None:
        decay, multiplier = partition.select(decay), partition.select(multiplier)
    beta1, beta2 = betas
    update = adamw(
        rates,
        betas=(beta1, beta2),
        epsilon=epsilon,
        decay=decay,
        multiplier=multiplier,
        moments=jnp.bfloat16 if bfloat16_moments else jnp.float32,
    )
    if clip_norm:
        update = optax.chain(optax.clip_by_global_norm(clip_norm), update)
    if limits:
        update = optax.chain(update, _limits_of(params, limits, partition))
    return Optimizer(update, rates, partition, ema_decay, float32_sums)


def _limits_of(
    params: Any, limits: Sequence[tuple[str, tuple[float, float]]], partition: Partition | None
) -> optax.GradientTransformation:
    for regex, (low, high) in limits:
        require(
            low <= high,
            f"config.optimizer.limits: {regex!r} has least {low} above most {high}; swap them",
        )
    bounds = []
    for which, everywhere in ((0, -math.inf), (1, math.inf)):
        rules = [(regex, float(bound[which])) for regex, bound in limits] + [(".*", everywhere)]
        matched = match_rules(params, rules, key="optimizer.limits")
        bounds.append(matched if partition is None else partition.select(matched))
    return keep_within(*bounds)
