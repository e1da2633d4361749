"""What the train step asks of a task.

A task is a frozen dataclass of settings. Its arrays come from outside: a batch [B, ...], the state
that it keeps from step to step (`extra`), and what never changes (`frozen`). What tasks ask of a
model stands in abilities.py.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax

Batch = Mapping[str, jax.Array]
Build = Callable[[Any], Any]  # parameters that train -> model
Metrics = dict[str, jax.Array]
# Among what losses give beside metrics: a tree like `Prepared.settled` of what they found on their
# way, summed and counted as they are.
SETTLED = "settled"


class Prepared(NamedTuple):
    """What a task makes of a batch before any gradient.

    Attributes:
        batch: arrays [B, ...], which may be cut into parts by rows.
        context: what the losses read beside it, the same for all parts, such as queued features.
        extra: the task's state after this step.
        settled: those of the parameters that the task sets itself, a part of their tree with the
            values after this step, such as running statistics; they should have no gradient.
    """

    batch: Batch
    context: Any
    extra: Mapping[str, Any]
    settled: Mapping[str, Any] = MappingProxyType({})


class Task(Protocol):
    """A bundle of losses, and how their gradients are taken.

    Attributes:
        reads: names of the arrays of a batch that it reads; no others are sent to the devices.
        gradients: a function of gradients.py.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""

    @property
    def extra_axes(self) -> Mapping[str, tuple]:
        """Logical axes of the arrays in `extra`, by name; of trees like the parameters, nothing."""

    def initial_extra(self, params: Any) -> dict[str, Any]:
        """The task's state before the first step; traced. Most tasks have none: {}."""

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Does what needs no gradient: labels from a frozen model, momentum towers, queues."""

    def gradients(
        self, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
    ) -> tuple[Any, Metrics]:
        """Gradients like `params`, and metrics; see gradients.py."""


class SummedTask(Task, Protocol):
    """A task whose loss is a sum over examples.

    Attributes:
        weights: name of a loss -> its weight in the total.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss -> its weight in the total."""

    def counts(self, batch: Batch) -> Mapping[str, Any]:
        """What each of `sums` is divided by: numbers of the whole batch."""

    def sums(self, model: Any, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """Losses and other metrics of a batch, or of a part of it, summed over its examples."""


class ContrastiveTask(Task, Protocol):
    """A task with a loss that compares each example with all others, and fused passes after it.

    Attributes:
        dropout: whether the model draws anything.
        weights: name of a loss of the fused passes -> its weight in the total.
    """

    dropout: bool

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss of the fused passes -> its weight in the total."""

    def features(self, model: Any, batch: Batch, key: jax.Array | None) -> Any:
        """A tree of features [B, ...] and scalars of a batch, or of a part of it."""

    def contrast(
        self, features: Any, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Any, Metrics]:
        """The weighted loss of the whole batch, the negatives drawn (a tree [B]), and metrics."""

    def fused_pairs(self, batch: Batch, negatives: Any) -> dict[str, jax.Array]:
        """The arrays [F, ...] that `fused_sums` reads: those of the F <= B pairs of the batch that
        take the fused passes, and of their negatives.
        """

    def counts(self, batch: Batch) -> Mapping[str, Any]:
        """What each of `fused_sums` is divided by: numbers of all these pairs."""

    def fused_sums(self, model: Any, batch: Batch, context: Any, key: jax.Array | None) -> Metrics:
        """Losses and metrics of the fused passes of a batch and its negatives, or of a part."""


class EncodedTask(Task, Protocol):
    """A task as a ContrastiveTask, whose fused passes go on from what was encoded before it.

    Attributes:
        dropout: whether the model draws anything.
        weights: name of a loss of the fused passes -> its weight in the total.
    """

    dropout: bool

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss of the fused passes -> its weight in the total."""

    def features(self, model: Any, batch: Batch, key: jax.Array | None) -> Any:
        """A tree of what a batch, or a part of it, is encoded to: floats [B, ...] and scalars."""

    def contrast(
        self, features: Any, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Any, Metrics]:
        """The weighted loss of the whole batch, the negatives drawn (a tree [B]), and metrics."""

    def fused_rows(self, features: Any, batch: Batch, negatives: Any) -> tuple[Any, Batch]:
        """What the fused passes read: a tree of floats [B, ...] made of the features, by which is
        differentiated, and the other arrays [B, ...].
        """

    def counts(self, batch: Batch) -> Mapping[str, Any]:
        """What each of `fused_sums` is divided by: numbers of all these rows."""

    def fused_sums(
        self, model: Any, states: Any, batch: Batch, context: Any, key: jax.Array | None
    ) -> Metrics:
        """Losses and metrics of the fused passes of a batch and its negatives, or of a part."""
