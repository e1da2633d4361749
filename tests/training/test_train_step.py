"""Accumulation, clipping and what a step draws, in the jitted step."""

import jax
import numpy as np
import pytest

from tests import tiny
from tests.close import close

# With this epsilon an update is a smooth function of the gradients: noise of 1e-7 in one that is
# zero stays noise.
CLIP = 0.25
OPTIMIZER = dict(epsilon=1e-4, warmup_steps=0, learning_rate=1e-2, clip_norm=CLIP)


def batch_with_duplicates():
    batch = tiny.make_batch()
    batch["image_id"][3], batch["text_id"][5] = batch["image_id"][0], batch["text_id"][1]
    return batch


class Case:
    """A compiled step on a mesh, that may be run from any parameters."""

    def __init__(self, shape=(1, 1, 1), num_fused=0, contrast_chunk=0, **fields):
        config = tiny.config(optimizer=OPTIMIZER, **fields)
        config.task.update(mask_duplicates=True, num_fused=num_fused, contrast_chunk=contrast_chunk)
        self.mesh = tiny.mesh_of(shape)
        with jax.set_mesh(self.mesh):
            self.program = tiny.program(config, self.mesh)
            self.compiled = self.program.compile()[0]

    def run(self, step=0):
        """One update from `tiny.params` at step number `step`: state and metrics on the host."""
        with jax.set_mesh(self.mesh):
            state = tiny.state(self.program, tiny.params())
            state = state.replace(step=jax.device_put(np.int32(step), self.program.shardings.step))
            batch = self.program.place_batch(batch_with_duplicates())
            return jax.device_get(self.compiled(state, {}, batch))


@pytest.fixture(scope="module")
def whole():
    return Case()


def test_fused_passes_of_a_part_of_the_batch_give_one_update_on_every_mesh():
    state, metrics = Case((2, 1, 1), num_fused=4, accumulation=2).run()
    expected_state, expected = Case(num_fused=4).run()
    close(metrics, expected, rtol=1e-5, atol=1e-5)
    close(state, expected_state, atol=1e-5)


@pytest.mark.parametrize("parts, shape", [(4, (1, 1, 1)), (2, (2, 2, 1))])
def test_accumulation_gives_the_update_of_the_whole_batch(whole, parts, shape):
    state, metrics = Case(shape, accumulation=parts).run()
    expected_state, expected = whole.run()
    assert metrics.keys() == expected.keys()
    close(metrics, expected, rtol=1e-5, atol=1e-5)
    close(state, expected_state, atol=1e-5)
    largest = max(np.abs(g).max() for g in gradients(expected_state))
    for found, wanted in zip(gradients(state), gradients(expected_state), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max() + 1e-7 * largest)


def test_contrast_in_chunks_gives_the_same_update(whole):
    """On shards and in parts, with the negatives that the whole contrast draws."""
    state, metrics = Case((2, 2, 1), accumulation=2, contrast_chunk=1).run()
    expected_state, expected = whole.run()
    close(metrics, expected, rtol=1e-5, atol=1e-5)
    close(state, expected_state, atol=1e-5)


def test_step_counts_and_draws_other_negatives(whole):
    first, again, other = whole.run(), whole.run(), whole.run(step=1)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert first[0].step == 1 and other[0].step == 2
    assert (
        first[1]["itc_loss"] == other[1]["itc_loss"]
        and first[1]["itm_loss"] != other[1]["itm_loss"]
    )


def gradients(state):
    """The gradients of a first update, which leaves a tenth of them in the first moments."""
    return [mean / (1 - 0.9) for mean in jax.tree.leaves(state.opt_state[1].mean)]


def test_clipping_scales_the_gradient_down(whole):
    state, metrics = whole.run()
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients(state)))
    assert metrics["grad_norm"] > 2 * CLIP  # the metric is taken before clipping
    np.testing.assert_allclose(norm, CLIP, rtol=1e-5)


def test_initial_state_is_the_same_on_every_mesh():
    states = []
    for shape in ((1, 1, 1), (2, 2, 2)):
        mesh = tiny.mesh_of(shape)
        with jax.set_mesh(mesh):
            program = tiny.program(tiny.config(), mesh)
            state = program.random_state()
            same = jax.tree.map(
                lambda x, sharding: x.sharding.is_equivalent_to(sharding, x.ndim),
                state,
                program.shardings,
            )
            assert all(jax.tree.leaves(same))
            states.append(jax.device_get(state))
    jax.tree.map(np.testing.assert_array_equal, *states)
