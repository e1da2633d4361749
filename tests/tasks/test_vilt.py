"""ViLT's losses: what is drawn, what parts of a batch change, and what is ranked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny, tiny_vilt
from vlmo_jax.bench.collectives import bytes_by_kind, read_collectives
from vlmo_jax.layers.patch_grid import PatchGrid
from vlmo_jax.parallel import sharding
from vlmo_jax.tasks.protocols import Prepared
from vlmo_jax.tasks.ranking import RankingTask, draw_texts
from vlmo_jax.tasks.vilt_pretrain import MATCHED, ViltPretrainTask, draw_pairs, word_places

SEEN = ("image", "image_grid")
TASK = ViltPretrainTask(seen=SEEN)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, tiny_vilt.make_batch())


def test_half_of_the_images_are_others_of_the_batch_drawn_by_the_key(batch):
    size, drawn = tiny.BATCH, set()
    same = lambda a, b: np.array_equal(np.asarray(a), np.asarray(b))
    for seed in range(6):
        pairs = draw_pairs(batch, SEEN, jax.random.key(seed))
        matched = np.asarray(pairs[MATCHED])
        assert matched.sum() == size // 2
        for row in range(size):
            rows = [n for n in range(size) if same(batch["image"][n], pairs["match_image"][row])]
            [found] = rows
            assert (found == row) == matched[row]
            assert same(pairs["match_image_grid"][row], batch["image_grid"][found])
        drawn.add(tuple(matched))
    assert len(drawn) > 1


def test_other_images_come_shard_by_shard(batch):
    draw = jax.jit(lambda batch, key: draw_pairs(batch, SEEN, key))
    alone = jax.device_get(draw(batch, jax.random.key(0)))
    mesh = tiny.mesh_of((8, 1, 1))
    with jax.set_mesh(mesh):
        placed = sharding.place_batch({name: np.asarray(batch[name]) for name in batch}, mesh)
        compiled = draw.lower(placed, jax.random.key(0)).compile()
        split = jax.device_get(compiled(placed, jax.random.key(0)))
    jax.tree.map(np.testing.assert_array_equal, split, alone)
    kinds = {
        kind
        for kind, element in bytes_by_kind(read_collectives(compiled.as_text()))
        if element == "u8"
    }
    assert kinds == {"collective-permute"}


def test_words_are_tokens_but_begin_and_end():
    mask = jnp.asarray([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    assert word_places(mask).astype(int).tolist() == [
        [0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
    ]


@pytest.fixture(scope="module")
def gradients():
    graphdef, params = tiny_vilt.graphdef(), tiny_vilt.params()

    def run(task, batch, parts, key=0):
        build = lambda params: nnx.merge(graphdef, params)
        prepared = Prepared(batch, (), {})
        take = jax.jit(lambda params, key: task.gradients(build, params, prepared, key, parts))
        return take(params, jax.random.key(key))

    return run


def test_parts_of_a_batch_give_the_update_of_the_whole(batch, gradients):
    with jax.default_matmul_precision("highest"):
        whole, parts = (gradients(TASK, batch, parts) for parts in (1, 2))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)
    jax.tree.map(close, whole, parts)
    assert set(whole[1]) == {
        "loss",
        "itm_loss",
        "itm_accuracy",
        "mlm_loss",
        "mlm_accuracy",
        "wpa_loss",
    }
    total = whole[1]["mlm_loss"] + whole[1]["itm_loss"] + 0.1 * whole[1]["wpa_loss"]
    np.testing.assert_allclose(whole[1]["loss"], total, rtol=1e-6)
    grads = jax.tree.leaves_with_path(whole[0])
    still = [jax.tree_util.keystr(path) for path, leaf in grads if not np.asarray(leaf).any()]
    assert not still


def test_what_is_beside_an_image_changes_nothing(batch):
    graphdef, params = tiny_vilt.graphdef(), tiny_vilt.params()
    logits = jax.jit(lambda *pair: nnx.merge(graphdef, params).pair_logits(*pair))
    image = jnp.asarray(np.random.default_rng(0).normal(size=batch["image"].shape), jnp.float32)
    rows = jnp.arange(24)
    inside = (rows[None, :, None] < 8 * batch["image_grid"][:, :1, None]) & (
        rows[None, None] < 8 * batch["image_grid"][:, 1:, None]
    )
    texts = batch["token_ids"], batch["token_mask"]
    other = jnp.where(inside[..., None], image, 9.0)
    one, two = (logits(PatchGrid(x, batch["image_grid"]), *texts) for x in (image, other))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(np.asarray(image), np.asarray(other))
    # And neither does padding of the text.
    ids = jnp.where(batch["token_mask"], batch["token_ids"], 7)
    three = logits(PatchGrid(image, batch["image_grid"]), ids, texts[1])
    np.testing.assert_allclose(one, three, atol=1e-5)


def test_a_key_draws_patches_and_none_takes_all(batch):
    graphdef, params = (make(sampled_patches=3) for make in (tiny_vilt.graphdef, tiny_vilt.params))
    image = PatchGrid(batch["image"].astype(jnp.float32), batch["image_grid"])
    texts = batch["token_ids"], batch["token_mask"]
    encode = jax.jit(lambda key: nnx.merge(graphdef, params).encode_pair(image, *texts, key))
    states = encode(jax.random.key(0))
    assert states.image.shape[1] == 4 and encode(None).image.shape[1] == 7
    assert states.image_mask.sum(axis=1).tolist() == [4] * len(batch["image"])
    again, other = encode(jax.random.key(0)), encode(jax.random.key(1))
    np.testing.assert_array_equal(states.text, again.text)
    assert not np.array_equal(np.asarray(states.text), np.asarray(other.text))


def test_other_texts_are_of_the_batch_and_none_comes_twice(batch):
    texts = draw_texts(batch, 5, jax.random.key(0))
    rows = np.asarray(batch["token_ids"])
    for row, found in enumerate(np.asarray(texts["other_token_ids"])):
        places = [int(np.flatnonzero((rows == text).all(axis=1))[0]) for text in found]
        assert len(set(places)) == 5 and row not in places
    assert texts["other_token_mask"].shape == (tiny.BATCH, 5, tiny.LENGTH)


def test_ranking_is_the_cross_entropy_of_the_own_text(batch):
    task = RankingTask(num_false=2, seen=SEEN)
    graphdef, params = tiny_vilt.graphdef("rank"), tiny_vilt.params(task="rank")
    model = lambda: nnx.merge(graphdef, params)
    given = {**batch, **draw_texts(batch, 2, jax.random.key(0))}
    sums = jax.jit(lambda batch: task.sums(model(), batch, (), jax.random.key(1)))(given)
    image = PatchGrid((batch["image"] / 255.0 - 0.5) / 0.5, batch["image_grid"])
    logits = jax.jit(lambda *texts: model().pair_logits(image, *texts))
    own = logits(batch["token_ids"], batch["token_mask"])
    others = [
        logits(given["other_token_ids"][:, n], given["other_token_mask"][:, n]) for n in range(2)
    ]
    assert not np.asarray(own[:, 0]).any()
    scores = np.stack([own[:, 1], *(other[:, 1] for other in others)], axis=1)
    losses = np.log(np.exp(scores - scores[:, :1]).sum(axis=1))
    np.testing.assert_allclose(sums["rank_loss"], losses.sum(), rtol=1e-4)
    assert sums["rank_accuracy"] == (scores.argmax(axis=1) == 0).sum()
