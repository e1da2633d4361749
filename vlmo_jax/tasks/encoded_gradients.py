"""Gradients of an EncodedTask, whose fused passes go on from what was encoded for the contrast.

In one piece the gradient is taken through all of it. In parts, everything is encoded first; the
contrast and, part by part, the fused passes give the slopes of what was encoded; with these each
part is encoded once more, as in gradients.py.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.tasks.gradients import join_rows, split_rows, two_keys
from vlmo_jax.tasks.protocols import Build, EncodedTask, Metrics, Prepared


def encoded_gradients(
    task: EncodedTask, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
) -> tuple[Any, Metrics]:
    """Gradients of a task whose fused passes read what was encoded; arguments as of
    `gradients.summed_gradients`.
    """
    model_key, negatives_key = jax.random.split(key)
    step = _Step(task, build, prepared, model_key if task.dropout else None, parts)
    if parts == 1:
        return step.in_one_piece(params, negatives_key)
    encoded = step.encode_all(params)
    loss, slopes, negatives, metrics = step.contrast(encoded, negatives_key)
    grads, fused_slopes, fused_metrics = step.fuse_all(params, encoded, negatives)
    fused = fused_metrics.pop("loss")
    slopes = jax.tree.map(jnp.add, slopes, fused_slopes)
    grads = step.pull_through_encoders(params, grads, slopes)
    return grads, {"loss": loss + fused, **metrics, **fused_metrics}


class _Step(NamedTuple):
    """A step and its arguments; `key` turns dropout on."""

    task: EncodedTask
    build: Build
    prepared: Prepared
    key: jax.Array | None
    parts: int

    def keys(self, number):
        """Keys of encoding and of fusing a part."""
        return two_keys(None if self.key is None else jax.random.fold_in(self.key, number))

    def in_one_piece(self, params, negatives_key):
        task, batch, context = self.task, self.prepared.batch, self.prepared.context
        encode_key, fuse_key = two_keys(self.key)

        def loss(params):
            model = self.build(params)
            encoded = task.features(model, batch, encode_key)
            contrast, negatives, metrics = task.contrast(encoded, batch, context, negatives_key)
            states, rows = task.fused_rows(encoded, batch, negatives)
            sums = task.fused_sums(model, states, rows, context, fuse_key)
            counts = task.counts(rows)
            total = contrast + weighted_total(sums, counts, task.weights)
            return total, {"loss": total, **metrics, **shares(sums, counts)}

        return jax.grad(loss, has_aux=True)(params)

    def _encode(self, params, part, number):
        return self.task.features(self.build(params), part, self.keys(number)[0])

    def _batch_in_parts(self):
        return split_rows(self.prepared.batch, self.parts), jnp.arange(self.parts)

    def encode_all(self, params):
        encoded = jax.lax.map(lambda part: self._encode(params, *part), self._batch_in_parts())
        return jax.tree.map(lambda x: join_rows(x) if x.ndim > 1 else x[0], encoded)

    def contrast(self, encoded, key):
        """The loss, its slopes, the negatives, and metrics."""

        def contrast(encoded):
            loss, negatives, metrics = self.task.contrast(
                encoded, self.prepared.batch, self.prepared.context, key
            )
            return loss, (negatives, metrics)

        (loss, aux), slopes = jax.value_and_grad(contrast, has_aux=True)(encoded)
        return loss, slopes, *aux

    def fuse_all(self, params, encoded, negatives):
        """Gradients of the fused passes, slopes of what was encoded, and metrics."""
        task, context = self.task, self.prepared.context
        states, pull, rows = jax.vjp(
            lambda encoded: task.fused_rows(encoded, self.prepared.batch, negatives),
            encoded,
            has_aux=True,
        )
        counts = task.counts(rows)

        def fuse(grads, inputs):
            states, rows, number = inputs

            def loss(params, states):
                key = self.keys(number)[1]
                sums = task.fused_sums(self.build(params), states, rows, context, key)
                total = weighted_total(sums, counts, task.weights)
                return total, {"loss": total, **shares(sums, counts)}

            (part_grads, slopes), metrics = jax.grad(loss, argnums=(0, 1), has_aux=True)(
                params, states
            )
            return jax.tree.map(jnp.add, grads, part_grads), (slopes, metrics)

        zeros = jax.tree.map(jnp.zeros_like, params)
        passes = *split_rows((states, rows), self.parts), jnp.arange(self.parts)
        grads, (slopes, metrics) = jax.lax.scan(fuse, zeros, passes)
        (slopes,) = pull(jax.tree.map(join_rows, slopes))
        return grads, slopes, jax.tree.map(lambda x: x.sum(0), metrics)

    def pull_through_encoders(self, params, grads, slopes):
        """`grads` and those that the slopes of what was encoded give.

        Every part sees the scalars again: each carries its share of their slope.
        """
        slopes = jax.tree.map(
            lambda g: (
                split_rows(g, self.parts) if g.ndim else jnp.full((self.parts,), g / self.parts)
            ),
            slopes,
        )

        def encode_again(grads, inputs):
            part_slopes, part, number = inputs

            def product(params):
                encoded = self._encode(params, part, number)
                return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, encoded, part_slopes)))

            return jax.tree.map(jnp.add, grads, jax.grad(product)(params)), None

        return jax.lax.scan(encode_again, grads, (slopes, *self._batch_in_parts()))[0]
