"""The loss of stage 2 against the official one, and what it may not depend on."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from tests.official_textmlm import model_fields, places_of
from tests.paths import DATA
from tests.tasks.losses import mean_losses
from vlmo_jax.interop.places import empty_places, fill_places
from vlmo_jax.models.build import abstract_model
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.tasks.text_pretrain import TextPretrainTask, make_masked_text_model, masked_logits

FIXTURE = DATA / "vlmo" / "tiny_base_textmlm.npz"
FIELDS = dict(experts=("image", "text"), heads=("mlm",))
TASK = TextPretrainTask()


@pytest.fixture(scope="module")
def official():
    """The arrays of the reference, its JSON, our model's graphdef and parameters, and the places of
    the tensors.
    """
    arrays, info = dict(np.load(FIXTURE)), json.loads(FIXTURE.with_suffix(".json").read_text())
    fields = model_fields(info)
    graphdef, abstract = abstract_model(lambda rngs: VLMo(**fields, **FIELDS, rngs=rngs))
    places = places_of(fields)
    unread = "pooler."
    places = {
        name: place
        for name, place in places.items()
        if f"param/{name}" in arrays and not name.startswith(unread)
    }
    params = fill_places({name: arrays[f"param/{name}"] for name in places}, places)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, nnx.to_pure_dict(abstract))
    return arrays, info, graphdef, params, places


def training_batch(arrays):
    labels = arrays["in/text_labels_mlm"]
    used = labels != -100
    return {
        "token_ids": arrays["in/text_ids"],
        "token_mask": arrays["in/text_masks"].astype(bool),
        "mlm_token_ids": arrays["in/text_ids_mlm"],
        "mlm_positions": np.where(used, np.arange(labels.shape[1]), 0).astype(np.int32),
        "mlm_labels": np.where(used, labels, -1).astype(np.int32),
    }


def test_logits_loss_and_gradients_are_the_official_ones(official):
    arrays, info, graphdef, params, places = official
    batch = training_batch(arrays)
    used = batch["mlm_labels"] != -1
    assert 0 < used.sum() < used.size

    def loss(params):
        model = nnx.merge(graphdef, params)
        value, metrics = mean_losses(TASK, model, batch, batch)
        return value, (metrics, masked_logits(model, batch))

    with jax.default_matmul_precision("highest"):
        (value, (metrics, logits)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
            params
        )
    np.testing.assert_allclose(logits[used], arrays["out/mlm_logits"][used], atol=2e-5, rtol=0)
    np.testing.assert_allclose(
        [value, metrics["mlm_loss"]], arrays["out/mlm_loss"], atol=2e-5, rtol=0
    )
    found = empty_places(gradients, places)
    expected = {
        name.removeprefix("grad/"): array
        for name, array in arrays.items()
        if name.startswith("grad/")
    }
    assert set(expected) == set(info["trainable"]) - set(info["trainable_but_grad_none"])
    for name, array in expected.items():
        np.testing.assert_allclose(
            found[name], array, rtol=0, atol=max(1e-4 * np.abs(array).max(), 1e-6), err_msg=name
        )
    untouched = [
        name for name in found if "_imag" in name or "patch_embed" in name or "cls_token" in name
    ]
    assert len(untouched) == 3 + 4 * 6 and not any(np.any(found[name]) for name in untouched)


@pytest.fixture(scope="module")
def params():
    return tiny.params(**FIELDS)


@pytest.fixture(scope="module")
def batch():
    batch = tiny.make_batch(6)
    return {
        name: batch[name]
        for name in ("token_ids", "token_mask", "mlm_token_ids", "mlm_positions", "mlm_labels")
    }


@jax.jit
def losses(params, part, batch):
    return mean_losses(TASK, tiny.model(params, **FIELDS), part, batch)


def test_the_parts_of_a_batch_sum_to_its_loss(params, batch):
    assert len({int(count) for count in (batch["mlm_labels"] != -1).sum(1)}) > 1
    whole = losses(params, batch, batch)
    parts = [
        losses(params, {name: value[rows] for name, value in batch.items()}, batch)
        for rows in (slice(0, 3), slice(3, 6))
    ]
    jax.tree.map(
        lambda total, *shares: np.testing.assert_allclose(sum(shares), total, rtol=1e-5, atol=1e-7),
        whole,
        *parts,
    )
    assert whole[0] > 0.1


def test_a_batch_without_masked_tokens_has_loss_zero(params, batch):
    batch = {**batch, "mlm_labels": np.full_like(batch["mlm_labels"], -1)}
    loss, metrics = losses(params, batch, batch)
    assert loss == 0 and metrics["mlm_accuracy"] == 0


def test_padding_and_unused_places_change_nothing(params, batch):
    expected = losses(params, batch, batch)
    unused, padding = batch["mlm_labels"] < 0, ~batch["token_mask"]
    assert unused.any() and padding.any()
    changed = {
        **batch,
        "mlm_positions": np.where(unused, 5, batch["mlm_positions"]),
        "mlm_token_ids": np.where(padding, 11, batch["mlm_token_ids"]),
    }
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        losses(params, changed, batch),
        expected,
    )


def test_the_key_matters_with_dropout_only(params, batch):
    fields = {**FIELDS, "drop_path_rate": 0.5}
    model = tiny.model(params, **fields)
    run = lambda task, seed: float(mean_losses(task, model, batch, batch, seed)[0])
    assert run(TextPretrainTask(dropout=False), 0) == run(TextPretrainTask(dropout=False), 1)
    assert run(TextPretrainTask(dropout=True), 0) != run(TextPretrainTask(dropout=True), 1)


def test_scores_and_guesses_agree_with_the_loss(params, batch):
    predictors = make_masked_text_model(tiny.graphdef(**FIELDS), top_k=3)
    loss, metrics = losses(params, batch, batch)
    sums = np.asarray(predictors.score(params, batch))
    used = batch["mlm_labels"] != -1
    np.testing.assert_array_equal(sums[:, 2], used.sum(1))
    np.testing.assert_allclose(sums[:, 0].sum() / sums[:, 2].sum(), loss, rtol=1e-5)
    np.testing.assert_allclose(
        sums[:, 1].sum() / sums[:, 2].sum(), metrics["mlm_accuracy"], rtol=1e-5
    )
    probabilities, ids = map(np.asarray, predictors.fill(params, batch))
    assert (
        (np.diff(probabilities, axis=-1) <= 0).all()
        and (probabilities.sum(-1) < 1).all()
        and (probabilities > 0).all()
    )
    right = (ids[..., 0] == batch["mlm_labels"]) & used
    np.testing.assert_array_equal(right.sum(1), sums[:, 1])
