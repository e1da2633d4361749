"""Fine-tuning for retrieval: what the losses are, and that parts of a batch give the update of the
whole.
"""

import jax
import numpy as np
import pytest

from configs import common, finetune_retrieval
from tests import tiny
from tests.close import close
from vlmo_jax.layers.modality_experts import EXPERTS
from vlmo_jax.tasks.retrieval_finetune import RetrievalTask

# With this epsilon an update is a smooth function of the gradients.
OPTIMIZER = dict(learning_rate=1e-2, warmup_steps=0)
DEPTH = 2


def config(argument="tiny", **fields):
    config = finetune_retrieval.get_config(argument)
    config.model.update({**tiny.MODEL, "heads": config.model.heads, "depth": DEPTH})
    frozen = config.optimizer.frozen
    config.optimizer = common.optimizer(**OPTIMIZER)
    config.optimizer.update(epsilon=1e-4, frozen=frozen)
    config.update({"batch_size": tiny.BATCH, "steps": 10, "accumulation": 1, **fields})
    return config


def batch(**changes):
    return {**tiny.make_batch(), **changes}


class Case:
    """A compiled step on a mesh."""

    def __init__(self, argument="tiny", shape=(1, 1, 1), contrast_chunk=0, **fields):
        self.config = config(argument, **fields)
        self.config.task.contrast_chunk = contrast_chunk
        self.mesh = tiny.mesh_of(shape)
        with jax.set_mesh(self.mesh):
            self.program = tiny.program(self.config, self.mesh)
            self.compiled = self.program.compile()[0]

    def run(self, batch):
        """One update: state and metrics on the host."""
        with jax.set_mesh(self.mesh):
            params = tiny.params(heads=self.config.model.heads, depth=DEPTH)
            state = tiny.state(self.program, params)
            return params, *jax.device_get(
                self.compiled(state, {}, self.program.place_batch(batch))
            )


@pytest.mark.parametrize(
    "argument, parts, chunk, shape",
    [("tiny", 2, 0, (2, 2, 1)), ("tiny,matching", 4, 2, (1, 1, 1))],
)
def test_parts_and_chunks_give_the_update_of_the_whole_batch(argument, parts, chunk, shape):
    before, state, metrics = Case(argument).run(batch())
    case = Case(argument, shape, accumulation=parts, contrast_chunk=chunk)
    _, found, found_metrics = case.run(batch())
    assert found_metrics.keys() == metrics.keys()
    close(found_metrics, metrics, rtol=1e-5, atol=1e-5)
    close(found.params, state.params, atol=1e-5)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, before)
    assert moved["itc"]["image"]["kernel"] > 1e-3


def test_the_dual_encoder_leaves_alone_what_it_does_not_read():
    before, state, _ = Case("tiny").run(batch())
    old, new = (
        tree["transformer"]["upper"]["experts"]["stacked"]["up"]["kernel"]
        for tree in (before, state.params)
    )
    image, fused = EXPERTS["image"], EXPERTS["vision_language"]
    np.testing.assert_array_equal(new[:, fused], old[:, fused])
    assert np.abs(new[:, image] - old[:, image]).max() > 1e-3


def test_the_contrast_is_the_mean_of_both_cross_entropies():
    task, params = RetrievalTask(), tiny.params(heads=("retrieval",))
    model = tiny.model(params, heads=("retrieval",))
    features = task.features(model, batch(), None)
    loss, negatives, metrics = task.contrast(features, batch(), (), jax.random.key(0))
    logits = np.exp(features.logit_scale) * np.asarray(features.image) @ np.asarray(features.text).T
    cross = lambda rows: np.mean(
        np.log(np.exp(rows - rows.max(1, keepdims=True)).sum(1)) + rows.max(1) - np.diagonal(rows)
    )
    np.testing.assert_allclose(loss, (cross(logits) + cross(logits.T)) / 2, rtol=1e-5)
    assert negatives == () and metrics["itc_loss"] == loss


def test_same_images_are_negatives_unless_they_are_masked():
    twice = batch(image_id=np.zeros(tiny.BATCH, np.uint32))
    params = tiny.params(heads=("retrieval",))
    model = tiny.model(params, heads=("retrieval",))
    losses = {}
    for masked in (False, True):
        task = RetrievalTask(mask_duplicates=masked)
        features = task.features(model, twice, None)
        losses[masked] = float(task.contrast(features, twice, (), jax.random.key(0))[0])
    assert losses[True] == 0 < losses[False]
