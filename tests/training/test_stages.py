"""The steps of stages 1 and 2: the same in parts as in one piece, and the same on every mesh."""

import jax
import numpy as np
import pytest

from tests import tiny
from tests.saved_visual_tokenizer import save_visual_tokenizer
from vlmo_jax.input.schema import UNUSED

# With this epsilon an update is a smooth function of the gradients, and noise stays noise.
SHARED = (
    "batch_size=8",
    "steps=10",
    "model.width=16",
    "model.mlp_dim=32",
    "model.num_heads=2",
    "model.depth=2",
    "optimizer.epsilon=1e-4",
    "optimizer.warmup_steps=0",
    "optimizer.learning_rate=0.01",
)
STAGES = {
    "stage1": (
        "data.source=emoji",
        "model.vocab_size=16",
        "model.image_size=32",
        "model.patch_size=8",
        "data.tokenizer_image_size=16",
        "data.num_masked=6",
        "data.min_block=2",
    ),
    "stage2": (
        "data.source=glosses",
        "init_from=none",
        "model.vocab_size=48",
        "model.text_length=8",
        "model.text_positions=8",
        "data.max_masked_tokens=3",
    ),
}
LABELS = {"stage1": "masked_positions", "stage2": "mlm_labels"}
LOSSES = {"stage1": "mim_loss", "stage2": "mlm_loss"}


@pytest.fixture(scope="module", params=STAGES)
def stage(request):
    return request.param


@pytest.fixture(scope="module")
def run(stage, tmp_path_factory):
    """A function that makes two updates: the metrics of each, the state and the program."""
    settings = (*SHARED, *STAGES[stage])
    if stage == "stage1":
        folder = tmp_path_factory.mktemp("tokenizer")
        save_visual_tokenizer(folder)
        settings += (f"visual_tokenizer={folder}",)

    def run(shape, *more):
        config = tiny.parse(f"{stage}:tiny", *settings, *more)
        mesh = tiny.mesh_of(shape)
        with jax.set_mesh(mesh):
            program = tiny.program(config, mesh)
            compiled, _, _ = program.compile()
            state, frozen, metrics = program.random_state(), program.load_frozen(), []
            for _ in range(2):
                batch = uneven(program.recipe.synthetic_batch(), LABELS[stage])
                state, measured = compiled(state, frozen, program.place_batch(batch))
                metrics.append(jax.device_get(measured))
            return metrics, jax.device_get(state), program

    return run


def uneven(batch, labels):
    """A batch whose rows have one, two, three ... masked places: no part has the mean of all."""
    values = batch[labels].copy()
    for row in range(len(values)):
        values[row, 1 + row % values.shape[1] :] = UNUSED
    return {**batch, labels: values}


@pytest.fixture(scope="module")
def whole(run):
    return run((1, 1, 1))


def assert_close(found, expected):
    (metrics, state, _), (wanted, wanted_state, _) = found, expected
    for measured, one in zip(metrics, wanted, strict=True):
        assert measured.keys() == one.keys()
        for name in one:
            np.testing.assert_allclose(
                measured[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name
            )
    jax.tree_util.tree_map_with_path(
        lambda path, a, b: np.testing.assert_allclose(
            a, b, atol=1e-5, err_msg=jax.tree_util.keystr(path)
        ),
        state,
        wanted_state,
    )


def test_the_loss_falls_and_every_part_that_trains_moves(whole, stage):
    metrics, state, program = whole
    assert metrics[1][LOSSES[stage]] < metrics[0][LOSSES[stage]]
    with jax.set_mesh(program.mesh):
        start = jax.device_get(program.random_state().params)
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, state.params, start))
    assert sum(moved) > 0.5 * len(moved)


@pytest.mark.parametrize("parts, shape", [(4, (2, 2, 1))])
def test_accumulation_gives_the_update_of_the_whole_batch(run, whole, parts, shape):
    assert_close(run(shape, f"accumulation={parts}"), whole)


@pytest.mark.parametrize("shape", [(2, 2, 2)], ids=str)
def test_same_losses_and_updates_on_every_mesh(run, whole, shape):
    assert_close(run(shape), whole)
