"""The losses of stage 3 in terms of what the model says, and what they may not depend on."""

import jax
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.tasks.pair_pretrain import PairPretrainTask
from vlmo_jax.tasks.retrieval import MATCH_SCORES

B = 6
KEY = jax.random.key(3)
TASK = PairPretrainTask(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))


def losses(params, batch, **fields):
    """total, metrics, negatives and the features they come from; no dropout. `fields` change the
    model's config.
    """
    model = tiny.model(params, **fields)
    features = TASK.features(model, batch, None)
    contrast, negatives, metrics = TASK.contrast(features, batch, (), KEY)
    pairs = TASK.fused_pairs(batch, negatives)
    sums, counts = TASK.fused_sums(model, pairs, (), None), TASK.counts(batch)
    total = contrast + weighted_total(sums, counts, TASK.weights)
    return total, ({**metrics, **shares(sums, counts)}, negatives, features)


gradients = jax.jit(jax.value_and_grad(losses, has_aux=True))


@pytest.fixture(scope="module")
def batch():
    return tiny.make_batch(B)


@pytest.fixture(scope="module")
def params():
    return tiny.params()


@pytest.fixture(scope="module")
def step(params, batch):
    return gradients(params, batch)


def test_total_is_the_weighted_sum(step):
    total, (metrics, *_) = step[0]
    expected = metrics["itm_loss"] + metrics["itc_loss"] + 0.25 * metrics["mlm_loss"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert all(metrics[name] > 0.1 for name in ("itm_loss", "itc_loss", "mlm_loss"))


def test_contrast_is_the_mean_of_both_branches(step):
    _, (metrics, _, features) = step[0]

    def cross_entropy(image, text, logit_scale):
        logits = (
            np.exp(np.float64(logit_scale))
            * np.asarray(image, np.float64)
            @ np.asarray(text, np.float64).T
        )
        losses = [np.log(np.exp(x).sum(1)) - np.diag(x) for x in (logits, logits.T)]
        return np.mean(losses)

    both = [
        cross_entropy(features.image, features.text, features.logit_scale),
        cross_entropy(features.image_vl, features.text_vl, features.logit_scale_vl),
    ]
    np.testing.assert_allclose(metrics["itc_loss"], np.mean(both), rtol=1e-5)
    assert abs(both[0] - both[1]) > 1e-3
    for feature in features[:4]:
        np.testing.assert_allclose(np.linalg.norm(feature, axis=1), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def log_odds(params):
    normalised = lambda image: (
        (image / np.float32(255) - np.float32(TASK.mean)) / np.float32(TASK.std)
    )
    match = jax.jit(
        lambda params, *pair: MATCH_SCORES["log_odds"](tiny.model(params).pair_logits(*pair))
    )
    return lambda image, ids, mask: np.asarray(
        match(params, normalised(image), ids, mask), np.float64
    )


def test_matching_loss_is_that_of_the_pairs_one_by_one(step, batch, log_odds):
    _, (metrics, negatives, _) = step[0]
    image, ids, mask = batch["image"], batch["token_ids"], batch["token_mask"]
    images, texts = np.asarray(negatives.image), np.asarray(negatives.text)
    assert (images != np.arange(B)).all() and (texts != np.arange(B)).all()
    positive, negative_image, negative_text = (
        log_odds(image, ids, mask),
        log_odds(image[images], ids, mask),
        log_odds(image, ids[texts], mask[texts]),
    )
    expected = np.concatenate(
        [
            np.log1p(np.exp(-positive)),
            np.log1p(np.exp(negative_image)),
            np.log1p(np.exp(negative_text)),
        ]
    )
    np.testing.assert_allclose(metrics["itm_loss"], expected.mean(), rtol=1e-4)
    right = np.concatenate([positive > 0, negative_image <= 0, negative_text <= 0])
    np.testing.assert_allclose(metrics["itm_accuracy"], right.mean(), rtol=1e-6)


def test_the_most_similar_others_are_drawn_at_low_temperature(params, batch):
    cold = jax.tree.map(lambda x: x, params)
    cold["itc"]["logit_scale"] = np.float32(12)
    _, (_, negatives, features) = gradients(cold, batch)[0]
    similarities = np.asarray(features.image) @ np.asarray(features.text).T
    np.fill_diagonal(similarities, -np.inf)
    np.testing.assert_array_equal(negatives.text, similarities.argmax(1))
    np.testing.assert_array_equal(negatives.image, similarities.argmax(0))


@pytest.mark.parametrize("logit_scale", [-20.0, 60.0, 100.0])
def test_extreme_temperatures_give_no_nan_to_matching(params, batch, logit_scale):
    extreme = jax.tree.map(lambda x: x, params)
    extreme["itc"]["logit_scale"] = np.float32(logit_scale)
    _, (metrics, negatives, _) = gradients(extreme, batch)[0]
    assert np.isfinite(metrics["itm_loss"]) and np.isfinite(metrics["mlm_loss"])
    assert (np.asarray(negatives.image) != np.arange(B)).all()


def same(found, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )


def test_ids_of_padding_change_neither_losses_nor_gradients(params, batch, step):
    padding = ~batch["token_mask"]
    assert padding.any()
    changed = {name: np.where(padding, 11, batch[name]) for name in ("token_ids", "mlm_token_ids")}
    found = gradients(params, {**batch, **changed})
    same(found, step)


def test_unused_places_change_nothing(params, batch, step):
    unused = batch["mlm_labels"] < 0
    assert unused.any()
    found = gradients(
        params, {**batch, "mlm_positions": np.where(unused, 5, batch["mlm_positions"])}
    )
    same(found, step)


def test_masked_copy_is_read_by_mlm_alone(params, batch, step):
    swapped = np.where(batch["mlm_token_ids"] == 4, 9, batch["mlm_token_ids"])
    _, (metrics, *_) = gradients(params, {**batch, "mlm_token_ids": swapped})[0]
    _, (expected, *_) = step[0]
    changed = {name for name in metrics if abs(float(metrics[name]) - float(expected[name])) > 1e-6}
    assert "mlm_loss" in changed and changed <= {"mlm_loss", "mlm_accuracy"}


def test_mlm_is_the_mean_over_masked_tokens_of_the_batch(params, batch, step):
    last = batch["mlm_labels"].copy()
    counts = (last >= 0).sum(1)
    last[
        counts < counts.max()
    ] = -1  # examples with few masked tokens are left out: the others weigh as much each
    fewer = gradients(params, {**batch, "mlm_labels": last})[0][1][0]["mlm_loss"]
    rest = np.where((counts < counts.max())[:, None], batch["mlm_labels"], -1)
    others = gradients(params, {**batch, "mlm_labels": rest})[0][1][0]["mlm_loss"]
    numbers = (last >= 0).sum(), (rest >= 0).sum()
    np.testing.assert_allclose(
        np.average([fewer, others], weights=numbers), step[0][1][0]["mlm_loss"], rtol=1e-5
    )
    none = gradients(params, {**batch, "mlm_labels": np.full_like(last, -1)})
    assert none[0][1][0]["mlm_loss"] == 0 and all(
        np.isfinite(g).all() for g in jax.tree.leaves(none[1])
    )


def test_normalised_float_images_are_taken_as_they_are(batch):
    image = (batch["image"] / np.float32(255) - np.float32(TASK.mean)) / np.float32(TASK.std)
    normalised = TASK._normalize(image)
    np.testing.assert_array_equal(normalised, image)
    np.testing.assert_allclose(TASK._normalize(batch["image"]), image, rtol=1e-5, atol=1e-5)


def test_bfloat16_computes_the_same_roughly_and_keeps_float32_where_it_matters(params, batch, step):
    in_bfloat16 = jax.jit(
        jax.value_and_grad(lambda p: losses(p, batch, dtype="bfloat16"), has_aux=True)
    )
    (total, (metrics, _, features)), grads = in_bfloat16(params)
    for name in ("itc_loss", "itm_loss", "mlm_loss"):
        np.testing.assert_allclose(metrics[name], step[0][1][0][name], rtol=0.1, err_msg=name)
    assert total != step[0][0]
    assert {leaf.dtype for leaf in jax.tree.leaves((total, metrics, features, grads))} == {
        np.dtype("float32")
    }


def test_duplicates_are_left_out_of_contrast_and_negatives(params, batch, step):
    features = step[0][1][2]
    ids = {
        **batch,
        "image_id": np.array([1, 1, 1, 4, 5, 6], np.uint32),
        "text_id": np.array([9, 8, 7, 6, 5, 6], np.uint32),
    }
    masking = PairPretrainTask(mask_duplicates=True)
    draw = jax.jit(jax.vmap(lambda key: masking.contrast(features, ids, (), key)[1]))
    negatives = draw(jax.random.split(KEY, 300))
    excluded = [{1, 2}, {0, 2}, {0, 1}, {5}, set(), {3}]
    for drawn in (negatives.image, negatives.text):
        for row in range(B):
            assert set(np.unique(np.asarray(drawn)[:, row])).isdisjoint(excluded[row] | {row})
    loss = masking.contrast(features, ids, (), KEY)[2]["itc_loss"]
    assert loss < TASK.contrast(features, ids, (), KEY)[2]["itc_loss"]
    # With the option off, or without duplicates, ids do not matter.
    np.testing.assert_array_equal(
        TASK.contrast(features, ids, (), KEY)[2]["itc_loss"],
        TASK.contrast(features, batch, (), KEY)[2]["itc_loss"],
    )
    np.testing.assert_allclose(
        masking.contrast(features, batch, (), KEY)[2]["itc_loss"],
        step[0][1][0]["itc_loss"],
        rtol=1e-6,
    )


def test_fused_passes_may_take_a_part_of_the_batch_with_negatives_of_all(params, batch, step):
    _, (metrics, negatives, _) = step[0]
    half = PairPretrainTask(mean=TASK.mean, std=TASK.std, num_fused=3)
    pairs = half.fused_pairs(batch, negatives)
    own = [0, 2, 4]
    for name in ("image", "mlm_labels"):
        np.testing.assert_array_equal(pairs[name], batch[name][own])
    np.testing.assert_array_equal(
        pairs["negative_image"], batch["image"][np.asarray(negatives.image)[own]]
    )
    model = tiny.model(params)
    found = shares(half.fused_sums(model, pairs, (), None), half.counts(pairs))
    every = [
        PairPretrainTask(mean=TASK.mean, std=TASK.std, num_fused=1).fused_pairs(
            {name: np.roll(array, -row, 0) for name, array in batch.items()},
            jax.tree.map(lambda rows, row=row: (np.roll(rows, -row) - row) % B, negatives),
        )
        for row in own
    ]
    alone = [TASK.fused_sums(model, one, (), None)["itm_loss"] for one in every]
    np.testing.assert_allclose(found["itm_loss"], np.sum(alone) / 9, rtol=1e-5)
    assert abs(found["itm_loss"] - metrics["itm_loss"]) > 1e-4


def test_easier_negatives_are_drawn_more_evenly(params, batch, step):
    features = step[0][1][2]._replace(logit_scale=np.float32(5))

    def shares_of_rows(easier):
        task = PairPretrainTask(easier_negatives=easier)
        draw = jax.jit(jax.vmap(lambda key: task.contrast(features, batch, (), key)[1].text))
        drawn = np.asarray(draw(jax.random.split(KEY, 2000)))
        return np.sort(np.bincount(drawn[:, 0], minlength=B) / 2000)[1:]  # less its own

    hard, between, even = map(shares_of_rows, (0.0, 0.9, 1.0))
    np.testing.assert_allclose(even, 1 / (B - 1), atol=0.045)  # 5 deviations
    assert hard[-1] > between[-1] + 0.05 > even[-1] + 0.1
