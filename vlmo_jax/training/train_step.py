"""One update: (state, batch) -> (state, metrics), jitted once over the mesh.

A step is a pure function of the state and the batch. Its randomness is keyed by (seed, step), so a
restart needs no random state beside the step.
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.parallel.sharding import batch_sharding, param_shardings, replicated


def state_shardings(abstract_params, optimizer, mesh, *, partition=None, extra=()):
    """Shardings of a TrainState: moments lie where their parameters lie, the rest is replicated.

    Args:
        abstract_params: nnx.State from `abstract_model`.
        optimizer: optax transformation of what trains.
        mesh: the mesh.
        partition: what trains; None: everything.
        extra: abstract tree of TrainState.extra.
    """
    params = param_shardings(abstract_params, mesh)
    by_path = {
        tuple(map(str, path)): s for path, s in nnx.traversals.flatten_mapping(params).items()
    }
    opt_state = jax.eval_shape(
        optimizer.init, abstract_trainable(nnx.to_pure_dict(abstract_params), partition)
    )

    def sharding_of(path, leaf):
        keys = tuple(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
        return by_path.get(keys, replicated(mesh))

    moments = jax.tree_util.tree_map_with_path(sharding_of, opt_state)
    everywhere = jax.tree.map(lambda leaf: replicated(mesh), dict(extra))
    return TrainState(step=replicated(mesh), params=params, opt_state=moments, extra=everywhere)


def abstract_trainable(shapes, partition):
    """Shapes of what trains of a pure tree of shapes."""
    return shapes if partition is None else jax.eval_shape(partition.trainable, shapes)


def init_state(make_model, optimizer, seed, shardings, *, partition=None, extra=()):
    """Initialises a TrainState directly in its shards; the same values on every mesh."""

    def init(extra):
        with nnx.use_eager_sharding(False):
            params = nnx.to_pure_dict(nnx.state(make_model(nnx.Rngs(seed))))
        trainable = params if partition is None else partition.trainable(params)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(trainable), extra)

    return jax.jit(init, out_shardings=shardings)(dict(extra))


def make_train_step(
    task, graphdef, optimizer, schedule, *, seed, mesh, shardings, partition=None, accumulation=1
):
    """Builds the jitted step.

    Args:
        task: see gradients.py.
        graphdef: of the model.
        optimizer, schedule: see optimizer.py; the optimizer is that of what trains.
        seed: of dropout, drop-path and whatever else the task draws.
        mesh: the mesh; the jitted function must run inside `jax.set_mesh(mesh)`.
        shardings: TrainState of shardings; the state is donated.
        partition: what trains; None: everything.
        accumulation: parts in which the batch goes through the model; the update is that of the
            whole batch.

    Returns:
        (TrainState, batch of [B, ...] arrays) -> (TrainState, metrics name -> scalar).
    """

    def step(state, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        batch, shared = task.prepare(batch, state.extra)
        trainable = state.params if partition is None else partition.trainable(state.params)

        def build(trainable):
            return nnx.merge(
                graphdef,
                trainable if partition is None else partition.insert(state.params, trainable),
            )

        grads, metrics = task.gradients(build, trainable, batch, shared, key, accumulation)
        updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
        metrics["grad_norm"] = optax.tree.norm(grads)
        metrics["learning_rate"] = schedule(state.step)
        trainable = optax.apply_updates(trainable, updates)
        params = trainable if partition is None else partition.insert(state.params, trainable)
        return TrainState(state.step + 1, params, opt_state, state.extra), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
