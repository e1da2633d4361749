"""One update: (state, frozen, batch) -> (state, metrics), jitted once over the mesh.

A step is a pure function of its arguments. Its randomness is keyed by (seed, step), so a restart
needs no random state beside the step.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from vlmo_jax.checkpoints.state import AVERAGED, TrainState
from vlmo_jax.layers.products import float32_sums
from vlmo_jax.models.build import ModelMaker, random_params
from vlmo_jax.parallel.sharding import batch_sharding, named_sharding, param_shardings, replicated
from vlmo_jax.tasks.protocols import SETTLED, Task
from vlmo_jax.training.averaging import update_average
from vlmo_jax.training.optimizer import Optimizer

# The metric that is 1 if all parameters are finite after the step, else 0. With it and a finite
# gradient norm the whole next state is finite: moments overflow no sooner than the norm does.
FINITE = "finite"


@dataclasses.dataclass(frozen=True)
class Update:
    """What makes one state from another.

    Attributes:
        task: the losses.
        optimizer: of what trains.
        graphdef: of the model.
        seed: of parameters, dropout, drop-path and whatever else the task draws.
        accumulation: parts in which a batch goes through the model; the update is that of the
            whole batch.
    """

    task: Task
    optimizer: Optimizer
    graphdef: nnx.GraphDef
    seed: int
    accumulation: int = 1

    def first_state(self, params: Any) -> TrainState:
        """A first TrainState with the given parameters; traced."""
        extra = self.task.initial_extra(params)
        if self.optimizer.ema_decay:
            # A copy: the state is donated, and no two of its arrays may be one.
            extra = {**extra, AVERAGED: jax.tree.map(jnp.copy, params)}
        moments = self.optimizer.transform.init(self.optimizer.trainable(params))
        return TrainState(jnp.zeros((), jnp.int32), params, moments, extra)

    def random_state(self, make_model: ModelMaker) -> TrainState:
        """A first TrainState with the parameters that the seed gives; traced."""
        return self.first_state(random_params(make_model, self.seed))

    def step(self, state: TrainState, frozen: Any, batch: Mapping[str, jax.Array]) -> tuple:
        """One update.

        Args:
            state: TrainState.
            frozen: parameters that never change, such as those of the visual tokenizer.
            batch: arrays [B, ...], those that the task reads.

        Returns:
            The next TrainState, and metrics name -> scalar, FINITE among them.
        """
        optimizer = self.optimizer
        key = jax.random.fold_in(jax.random.key(self.seed), state.step)
        prepared = self.task.prepare(batch, state.params, state.extra, frozen)
        trainable = optimizer.trainable(state.params)

        def build(trainable):
            return nnx.merge(self.graphdef, optimizer.insert(state.params, trainable))

        with jax.named_scope("gradients"), float32_sums(optimizer.float32_sums):
            grads, metrics = self.task.gradients(build, trainable, prepared, key, self.accumulation)
        found: Any = metrics.pop(SETTLED, {})
        settled = {**prepared.settled, **found}
        with jax.named_scope("optimizer"):
            updates, moments = optimizer.transform.update(grads, state.opt_state, trainable)
        metrics["grad_norm"] = optax.tree.norm(grads)
        metrics["learning_rate"] = optimizer.schedule(state.step)
        updated = optax.apply_updates(trainable, updates)
        metrics[FINITE] = _all_finite(updated)
        params = _settle(optimizer.insert(state.params, updated), settled)
        extra = dict(prepared.extra)
        if optimizer.ema_decay:
            extra[AVERAGED] = update_average(state.extra[AVERAGED], params, optimizer.ema_decay)
        return TrainState(state.step + 1, params, moments, extra), metrics


def _settle(params: Any, settled: Mapping[str, Any]) -> Any:
    """`params` with those that the task sets itself in their places."""
    if not settled:
        return params
    flatten, unflatten = nnx.traversals.flatten_mapping, nnx.traversals.unflatten_mapping
    return unflatten({**flatten(params), **flatten(settled)})


def _all_finite(tree: Any) -> jax.Array:
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(finite).all().astype(jnp.float32)


def state_shardings(
    abstract: TrainState, params: Any, mesh: jax.sharding.Mesh, extra_axes: Mapping[str, tuple]
) -> TrainState:
    """Shardings of a TrainState.

    Moments, averages and other copies of parameters lie where their parameters lie, known by the
    end of their path. The task says how its other arrays lie. The rest is replicated.

    Args:
        abstract: TrainState of shapes.
        params: nnx.State of the model's abstract parameters, with their logical axes.
        mesh: the mesh.
        extra_axes: name in `extra` -> logical axes, see tasks/protocols.py.
    """
    shardings = param_shardings(params, mesh)
    by_path = {
        tuple(map(str, path)): sharding
        for path, sharding in nnx.traversals.flatten_mapping(shardings).items()
    }

    def sharding_of(path, leaf):
        keys = tuple(str(k.key) for k in path if isinstance(k, jax.tree_util.DictKey))
        if keys and keys[0] in extra_axes:
            return named_sharding(mesh, extra_axes[keys[0]])
        ends = (keys[start:] for start in range(len(keys)))
        return next((by_path[end] for end in ends if end in by_path), replicated(mesh))

    return TrainState(
        step=replicated(mesh),  # type: ignore[arg-type]  # a tree of shardings like the state
        params=shardings,
        opt_state=jax.tree_util.tree_map_with_path(sharding_of, abstract.opt_state),
        extra=jax.tree_util.tree_map_with_path(sharding_of, abstract.extra),
    )


def jit_step(update: Update, shardings: TrainState, mesh: jax.sharding.Mesh) -> jax.stages.Wrapped:
    """The jitted `Update.step`, which donates the state; run it inside `jax.set_mesh(mesh)`."""
    return jax.jit(
        update.step,
        in_shardings=(shardings, replicated(mesh), batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
