"""ViLBERT's losses: what is drawn and hidden, what parts of a batch change, and what codes are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny, tiny_vilbert
from vlmo_jax.layers.regions import Regions, add_global_region, grid_boxes, grid_regions, overlaps
from vlmo_jax.models.build import abstract_model, model_maker, random_params
from vlmo_jax.objectives.masked_regions import class_losses, feature_losses
from vlmo_jax.tasks.protocols import Prepared
from vlmo_jax.tasks.vilbert_pretrain import OVERLAP, VilbertPretrainTask, draw_regions

TASK = VilbertPretrainTask(region_rate=0.5)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, tiny_vilbert.make_batch())


def regions_of(batch):
    return Regions(batch["regions"], batch["boxes"], batch["region_mask"])


def test_boxes_of_a_grid_and_their_overlaps():
    boxes = grid_boxes(2, 3)
    np.testing.assert_allclose(boxes[4], [1 / 3, 1 / 2, 2 / 3, 1, 1 / 6], rtol=1e-6)
    np.testing.assert_allclose(overlaps(jnp.asarray(boxes)), np.eye(6), atol=1e-6)
    pair = jnp.asarray([[0, 0, 0.5, 1, 0.5], [0, 0, 1, 1, 1.0], [0, 0, 0, 0, 0]])
    np.testing.assert_allclose(overlaps(pair)[0], [1, 0.5, 0], atol=1e-6)
    image = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    regions = grid_regions(image, 2)
    np.testing.assert_array_equal(regions.features[1, 4], image[1, 2:, 2:4].reshape(-1))


def test_the_global_region_is_the_mean_of_what_is_shown(batch):
    regions = regions_of(batch)
    hidden = jnp.zeros(regions.mask.shape, bool).at[:, 0].set(True)
    found = add_global_region(regions, hidden)
    shown = np.asarray(regions.mask).copy()
    shown[:, 0] = False
    for row in range(tiny.BATCH):
        mean = np.asarray(regions.features)[row, shown[row]].mean(0)
        np.testing.assert_allclose(found.features[row, 0], mean, rtol=1e-5, atol=1e-6)
    assert not found.features[:, 1].any() and found.mask[:, 0].all()
    np.testing.assert_array_equal(found.boxes[:, 0], [[0, 0, 1, 1, 1]] * tiny.BATCH)
    # With all hidden it is zero.
    assert not add_global_region(regions, jnp.ones_like(hidden)).features.any()


def test_what_overlaps_a_hidden_region_is_hidden_and_padding_never_asked_for(batch):
    regions = regions_of(batch)
    near = np.asarray(overlaps(regions.boxes)) > OVERLAP
    asked_total = real_total = 0
    for seed in range(60):
        asked, hidden = map(np.asarray, draw_regions(jax.random.key(seed), regions, 0.15))
        real = np.asarray(regions.mask)
        assert not (asked & ~real).any() and not (hidden & ~real).any()
        alone = hidden & ~asked
        for row, place in zip(*np.nonzero(alone), strict=True):
            assert (near[row, place] & asked[row]).any()
        asked_total, real_total = asked_total + asked.sum(), real_total + real.sum()
    assert 0.1 < asked_total / real_total < 0.2


def drawn(task, batch, seed):
    _, found, _ = task.contrast({}, batch, (), jax.random.key(seed))
    return found, task.fused_pairs(batch, found)


def test_half_of_the_captions_are_anothers_and_never_a_buffer_of_it(batch):
    before = jax.tree.map(np.array, dict(batch))
    aligned = []
    for seed in range(20):
        found, pairs = drawn(TASK, batch, seed)
        rows = np.asarray(found.text)
        own = rows == np.arange(tiny.BATCH)
        np.testing.assert_array_equal(pairs["aligned"], own)
        np.testing.assert_array_equal(pairs["mlm_token_ids"], batch["mlm_token_ids"][rows])
        np.testing.assert_array_equal(pairs["regions"], batch["regions"])
        aligned.append(own.mean())
    assert 0.35 < np.mean(aligned) < 0.65
    jax.tree.map(np.testing.assert_array_equal, before, dict(batch))


def test_duplicates_are_no_others_and_only_pairs_that_belong_together_are_asked(batch):
    same = {**batch, "text_id": jnp.asarray([1, 1, 1, 1, 1, 1, 1, 2], jnp.uint32)}
    task = dataclasses.replace(TASK, mask_duplicates=True, aligned_only=True)
    for seed in range(8):
        found, pairs = drawn(task, same, seed)
        others = np.asarray(found.text) != np.arange(tiny.BATCH)
        assert set(np.asarray(found.text)[:7][others[:7]]) <= {7}
        assert not np.asarray(pairs["asked"])[others].any()
        assert (np.asarray(pairs["mlm_labels"])[others] == -1).all()


def test_losses_of_regions():
    rng = np.random.default_rng(0)
    logits, classes = rng.normal(size=(3, 4)), rng.random((3, 4))
    classes /= classes.sum(1, keepdims=True)
    classes[2] = [0, 0, 1, 0]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.nansum(classes * np.log(classes / p), axis=1)
    found = class_losses(jnp.asarray(logits, jnp.float32), jnp.asarray(classes, jnp.float32))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert not class_losses(jnp.ones((1, 4)), jnp.zeros((1, 4))).any()
    np.testing.assert_allclose(feature_losses(jnp.ones((2, 4)), jnp.zeros((2, 4))), [1, 1])


def test_parts_of_a_batch_give_the_update_of_the_whole(batch):
    graphdef, params = tiny_vilbert.graphdef(), tiny_vilbert.params()
    build = lambda params: nnx.merge(graphdef, params)
    prepared = Prepared({name: batch[name] for name in TASK.reads}, (), {})

    def take(parts):
        run = lambda params, key: TASK.gradients(build, params, prepared, key, parts)
        return jax.jit(run)(params, jax.random.key(3))

    with jax.default_matmul_precision("highest"):
        whole, parts = take(1), take(2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), whole, parts)
    metrics = whole[1]
    total = sum(metrics[f"{name}_loss"] for name in ("itm", "mlm", "region"))
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)
    still = [path for path, leaf in jax.tree.leaves_with_path(whole[0]) if not leaf.any()]
    assert not still


def test_codes_of_the_visual_tokenizer_are_the_classes_of_patches(batch):
    sizes = dict(vocab_size=6, num_hidden=4, num_groups=3, blocks_per_group=1, num_init=0)
    make = model_maker({"kind": "discrete_vae", **sizes}, decoder=False)
    graphdef, params = abstract_model(make)[0], random_params(make, 0)
    task = VilbertPretrainTask(patch_size=8, visual_tokenizer=graphdef)
    assert task.reads[0] == "image"
    found = task.prepare(batch, {}, {}, params).batch["region_classes"]
    # A code of 4 pixels stands for a patch of 8, shrunk to it.
    small = np.asarray(batch["image"], np.float32).reshape(-1, 8, 2, 8, 2, 3).mean((2, 4)) / 255
    logits = nnx.merge(graphdef, params).logits(jnp.asarray(small))
    wanted = jax.nn.softmax(logits).reshape(tiny.BATCH, 4, 6)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
