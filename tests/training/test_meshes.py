"""One step on one device and on meshes of eight: the same numbers, laid out by the table, moved as
designed.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.close import same_run
from vlmo_jax.bench.collectives import read_collectives
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.pair_pretrain import (
    Features,
    Negatives,
    PairPretrainTask,
    fetch_negatives,
    pass_negatives,
)

SIZE, STEPS = 24, 2
ONE, MESHES = (1, 1, 1), [(8, 1, 1), (4, 2, 1), (2, 2, 2)]
# With this epsilon an update is a smooth function of the gradients: noise of 1e-7 in one that is
# zero stays noise.
OPTIMIZER = dict(epsilon=1e-4, warmup_steps=0, learning_rate=1e-2)
PIXELS = SIZE * SIZE * 3


def run(shape):
    """Two updates on a mesh: the compiled text, the metrics of each step, and the state as numpy
    and on the devices.
    """
    config = tiny.config(model=dict(image_size=SIZE, drop_path_rate=0.2), optimizer=OPTIMIZER)
    mesh = tiny.mesh_of(shape)
    with jax.set_mesh(mesh):
        program = tiny.program(config, mesh)
        compiled, _, _ = program.compile()
        state, metrics = tiny.state(program, tiny.params(image_size=SIZE, drop_path_rate=0.2)), []
        for step in range(STEPS):
            batch = program.place_batch(tiny.make_batch(size=SIZE, seed=step))
            state, measured = compiled(state, {}, batch)
            metrics.append(jax.device_get(measured))
        state = jax.device_get(state), state
        if shape == ONE:
            metrics += [measure_at(program, compiled, step) for step in (0, 7)]
    return compiled.as_text(), metrics, *state


def measure_at(program, compiled, step):
    """The metrics of the first batch from the first parameters, at another step."""
    state = tiny.state(program, tiny.params(image_size=SIZE, drop_path_rate=0.2))
    state = state.replace(step=jax.device_put(np.int32(step), program.shardings.step))
    batch = program.place_batch(tiny.make_batch(size=SIZE, seed=0))
    return jax.device_get(compiled(state, {}, batch)[1])


@pytest.fixture(scope="module")
def alone():
    return run(ONE)


@pytest.fixture(scope="module", params=MESHES, ids=str)
def many(request):
    return request.param, run(request.param)


def test_same_losses_and_updates_as_on_one_device(alone, many):
    _, (_, metrics, state, _) = many
    same_run(metrics, state, alone[1][:STEPS], alone[2])


def test_drop_path_draws_by_step(alone):
    first, _, again, later = alone[1]
    assert first == again and first["itc_loss"] != later["itc_loss"]


def test_updates_move_every_part(alone):
    start = tiny.params(image_size=SIZE, drop_path_rate=0.2)
    still = [
        jax.tree_util.keystr(path)
        for path, moved in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda a, b: np.abs(a - b).max() > 1e-3, alone[2].params, start)
        )
        if not moved
    ]
    assert not still


def test_state_lies_as_the_table_says(many):
    shape, (_, _, _, state) = many
    data, fsdp, tensor = shape
    checked = set()
    for tree in (state.params, state.opt_state.mean, state.opt_state.variance):
        upper = _leaf(tree, ("transformer", "upper"))
        experts = _leaf(upper, ("experts", "stacked"))
        # [layers, width, 3, heads, head width], [layers, experts, width, mlp], [layers, experts,
        # mlp, width]
        for leaf, whole, parts in (
            (_leaf(upper, ("attention", "qkv")), (1, 16, 3, 2, 8), (1, fsdp, 1, tensor, 1)),
            (
                _leaf(experts, ("up", "kernel")),
                (1, 3, 16, 32),
                (1, 1, fsdp, tensor),
            ),
            (
                _leaf(experts, ("down", "kernel")),
                (1, 3, 32, 16),
                (1, 1, tensor, fsdp),
            ),
            (_leaf(tree, ("text_embedding", "word")), (48, 16), (tensor, fsdp)),
            (_leaf(tree, ("transformer", "relative_position_bias")), (3, 54, 2), (1, 1, 1)),
        ):
            assert leaf.shape == whole
            assert leaf.sharding.shard_shape(whole) == tuple(n // p for n, p in zip(whole, parts))
            checked.add(leaf.shape)
        same = jax.tree.map(
            lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim), tree, state.params
        )
        assert all(jax.tree.leaves(same))
    assert len(checked) == 5
    for scalar in (state.step, state.opt_state.count):
        assert scalar.sharding.is_fully_replicated and int(scalar) == STEPS


def _leaf(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def collectives(text):
    """(kind, type, shape) of every array that a collective of a compiled program takes or gives."""
    return [
        (collective.kind, element, shape)
        for collective in read_collectives(text)
        for element, shape in collective.arrays()
    ]


def pixel_collectives(text, *, float_only=True):
    """Collectives of whole images, however they are shaped: no other array here has a multiple of
    their entries.
    """
    return [
        c
        for c in collectives(text)
        if not math.prod(c[2]) % PIXELS and (not float_only or c[1][0] in "fb")
    ]


def test_no_parameter_looks_like_an_image():
    config = tiny.config(model=dict(image_size=SIZE))
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(tiny.params(image_size=SIZE))]
    assert config.model.image_size == SIZE and not [size for size in sizes if not size % PIXELS]


def test_embeddings_are_gathered_and_float_pixels_are_not(many):
    shape, (text, _, _, _) = many
    found = collectives(text)
    gathered = [c for c in found if c == ("all-gather", "f32", (tiny.BATCH, 16))]
    assert len(gathered) >= 4, f"ITC features of two branches and two modalities: {found}"
    assert not pixel_collectives(text)
    assert any(element == "u8" for _, element, _ in pixel_collectives(text, float_only=False))


@pytest.mark.parametrize("element, floats", [(np.uint8, False), (np.float32, True)])
def test_pixels_that_travel_as_floats_would_be_noticed(element, floats):
    mesh = tiny.mesh_of((8, 1, 1))
    batch = sharding.place_batch(
        {**tiny.make_batch(size=SIZE), "image": np.zeros((8, SIZE, SIZE, 3), element)}, mesh
    )
    with jax.set_mesh(mesh):
        rows = jnp.arange(8, dtype=jnp.int32)[::-1]
        text = (
            jax.jit(lambda batch: fetch_negatives(batch, Negatives(rows, rows)))
            .lower(batch)
            .compile()
            .as_text()
        )
    assert bool(pixel_collectives(text)) == floats
    assert pixel_collectives(text, float_only=False)


@pytest.mark.parametrize("shape", [ONE, *MESHES], ids=str)
def test_images_that_come_past_are_those_that_are_gathered(shape):
    """All of them, and the first of each four."""
    mesh, size = tiny.mesh_of(shape), 32
    rng = np.random.default_rng(0)
    arrays = {**tiny.make_batch(size), "image": rng.integers(0, 255, (size, 4, 4, 3), np.uint8)}
    rows = Negatives(*rng.integers(0, size, (2, size)).astype(np.int32))
    for negatives in (rows, Negatives(rows.image[::4], rows.text[::4])):
        with jax.set_mesh(mesh):
            batch = sharding.place_batch(arrays, mesh)
            compiled = jax.jit(pass_negatives).lower(batch, negatives).compile()
            found = compiled(batch, negatives)
        jax.tree.map(np.testing.assert_array_equal, found, fetch_negatives(arrays, negatives))
        kinds = {c.kind for c in read_collectives(compiled.as_text())}
        assert kinds <= {"collective-permute"} and bool(kinds) == (shape != ONE)


@pytest.mark.parametrize("groups", [2, 8, 16])
def test_images_stay_in_their_groups(groups):
    """On eight shards: what comes past is of the own group, and of one shard nothing travels."""
    mesh, size = tiny.mesh_of((4, 2, 1)), 32
    rng = np.random.default_rng(0)
    arrays = {**tiny.make_batch(size), "image": rng.integers(0, 255, (size, 4, 4, 3), np.uint8)}
    length = size // groups
    firsts = np.arange(size) // length * length
    drawn = (firsts + rng.integers(0, length, (2, size))).astype(np.int32)
    for step in (1, 4):
        negatives = Negatives(*(drawn[:, ::step]))
        fetch = functools.partial(pass_negatives, groups=groups)
        with jax.set_mesh(mesh):
            batch = sharding.place_batch(arrays, mesh)
            compiled = jax.jit(fetch).lower(batch, negatives).compile()
            found = compiled(batch, negatives)
        jax.tree.map(np.testing.assert_array_equal, found, fetch_negatives(arrays, negatives))
        moved = read_collectives(compiled.as_text())
        assert bool(moved) == (groups < 8)
        assert all(len({chip // 4 for chip in pair}) == 1 for c in moved for pair in c.groups)


@pytest.mark.parametrize("groups", [0, 8])
def test_images_leave_their_shards_for_the_negatives_of_the_whole_batch_alone(groups):
    task, mesh, size = PairPretrainTask(negative_groups=groups), tiny.mesh_of((8, 1, 1)), 16
    batch = tiny.make_batch(size, size=SIZE)
    vectors = [np.ones((size, 16), np.float32)] * 4

    def contrast_and_fetch(vectors, batch):
        features = Features(*vectors, jnp.float32(0), jnp.float32(0))
        _, negatives, _ = task.contrast(features, batch, (), jax.random.key(0))
        return task.fused_pairs(batch, negatives)

    with jax.set_mesh(mesh):
        arguments = sharding.place_batch({"vectors": np.stack(vectors, 1)}, mesh)["vectors"]
        placed = sharding.place_batch(batch, mesh)
        compiled = jax.jit(lambda v, b: contrast_and_fetch(v.swapaxes(0, 1), b))
        text = compiled.lower(arguments, placed).compile().as_text()
    assert any(c[0] == "all-gather" and c[1] == "f32" for c in collectives(text))
    assert bool(pixel_collectives(text, float_only=False)) == (groups == 0)


def test_the_recipe_batch_has_these_names():
    recipe = Recipe(tiny.config())
    assert set(recipe.data.rows.columns) == set(tiny.make_batch())
    # Ids travel to the devices where duplicates are looked for, and nowhere else.
    sent = set(tiny.make_batch()) - {"image_id", "text_id"}
    assert set(recipe.abstract_batch()) == sent
    recipe.config.task.mask_duplicates = True
    assert set(recipe.abstract_batch()) == set(tiny.make_batch())
