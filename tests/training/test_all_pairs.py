"""Matching over all pairs of a batch: the loss in plain numpy, and the same on every mesh."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from tests.close import same_run
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.models.build import abstract_model, abstract_params
from vlmo_jax.recipes import Recipe
from vlmo_jax.training import program as programs

STEPS = 2
SMALL = (
    *("model.width=16", "model.num_heads=2", "model.mlp_dim=32", "model.depth=3"),
    *("model.image_size=16", "model.patch_size=8", "model.text_length=8", "model.vocab_size=48"),
    *("batch_size=8", "steps=10", "data.max_masked_tokens=3", "model.scan_layers=True"),
    # With this epsilon an update is a smooth function of the gradients.
    *("optimizer.epsilon=1e-3", "optimizer.warmup_steps=0", "optimizer.learning_rate=0.01"),
    "optimizer.rate_multipliers=()",
)


def recipe(*settings):
    return Recipe(tiny.parse("late_fusion:tiny", *SMALL, *settings))


def draw(params, seed=0):
    rng = np.random.default_rng(seed)

    def values(path, leaf):
        found = rng.normal(0, 0.3, leaf.shape)
        return (found + 1 if path[-1].key == "scale" else found).astype(np.float32)

    return jax.tree_util.tree_map_with_path(values, params)


def run(shape):
    made = recipe()
    mesh = tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        program = programs.build_program(made, mesh)
        compiled, _, _ = program.compile()
        state = tiny.state(program, draw(abstract_params(made.make_model)))
        metrics = []
        for step in range(STEPS):
            batch = {name: tiny.make_batch(size=16, seed=step)[name] for name in made.task.reads}
            batch["text_id"][1] = batch["text_id"][0]  # two pictures of one thing
            state, measured = compiled(state, {}, program.place_batch(batch))
            metrics.append(jax.device_get(measured))
        return metrics, jax.device_get(state)


@pytest.fixture(scope="module")
def alone():
    return run((1, 1, 1))


def test_the_loss_is_the_cross_entropy_of_each_pairs_logits(alone):
    made = recipe()
    graphdef, _ = abstract_model(made.make_model)
    model = nnx.merge(graphdef, draw(abstract_params(made.make_model)))
    batch = tiny.make_batch(size=16, seed=0)
    size = len(batch["image"])
    image = normalize_image(batch["image"], *(tuple(made.config.data[x]) for x in ("mean", "std")))
    texts = [np.repeat(batch[name], size, axis=0) for name in ("token_ids", "token_mask")]
    logits = np.asarray(model.pair_logits(np.tile(image, (size, 1, 1, 1)), *texts), np.float64)
    scores = (logits[:, 1] - logits[:, 0]).reshape(size, size)
    scores[[0, 1], [1, 0]] = -np.inf  # the same caption
    losses = [
        np.log(np.exp(way - way.max()).sum(1)) + way.max() - np.diagonal(way)
        for way in (scores, scores.T)
    ]
    assert alone[0][0]["match_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_same_losses_and_updates_as_on_one_device(alone, shape):
    metrics, state = run(shape)
    same_run(metrics, state, *alone)


def test_updates_move_every_part(alone):
    start = draw(abstract_params(recipe().make_model))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), alone[1].params, start)
    assert min(jax.tree.leaves(moved)) > 0


def test_a_batch_in_parts_is_refused():
    with pytest.raises(ConfigError, match="config.accumulation=2: all pairs of a batch"):
        recipe("accumulation=2").check(1, None)
