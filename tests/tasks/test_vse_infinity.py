"""The triplet task: which negatives count when, duplicates, collapse, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small_vse
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.vse_infinity import check_sizes
from vlmo_jax.objectives.triplet import triplet_loss
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.tasks.vse_infinity import CollapsedError, TripletRecipe
from vlmo_jax.tasks.vse_infinity import COLLAPSED, Features


def task(**fields):
    return Recipe(small_vse.config(task=fields)).make_task()


def unit(rng, rows, width=6):
    x = rng.normal(size=(rows, width)).astype(np.float32)
    return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


def contrast(made, features, updates, **ids):
    batch = {name: jnp.asarray(values) for name, values in ids.items()}
    return made.contrast(features, batch, jnp.int32(updates), jax.random.key(0))


def test_all_negatives_count_at_first_and_then_the_hardest():
    rng = np.random.default_rng(0)
    features, made = Features(unit(rng, 7), unit(rng, 7)), task(margin=0.3)
    scores = np.asarray(features.image @ features.text.T)
    right = np.diag(scores)
    costs = np.maximum(0.3 + scores - right[:, None], 0), np.maximum(0.3 + scores - right, 0)
    for cost in costs:
        np.fill_diagonal(cost, 0)
    loss, _, metrics = contrast(made, features, 0)
    np.testing.assert_allclose(loss, costs[0].sum() + costs[1].sum(), rtol=1e-5)
    assert metrics[COLLAPSED] == 0
    loss, _, metrics = contrast(made, features, 1)
    np.testing.assert_allclose(loss, costs[0].max(1).sum() + costs[1].max(0).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["triplet_loss"], loss / 7, rtol=1e-6)


def test_duplicates_are_no_negatives_where_asked():
    rng = np.random.default_rng(1)
    image = unit(rng, 4).at[1].set(unit(rng, 4)[0])
    features = Features(image, image)
    ids = dict(image_id=[0, 0, 1, 2], text_id=[3, 4, 5, 6])
    alone = contrast(task(mask_duplicates=True), features, 1, **ids)[0]
    ignored = jnp.asarray(np.equal.outer(ids["image_id"], ids["image_id"]))
    scores = image @ image.T
    np.testing.assert_allclose(
        alone, triplet_loss(scores, scores, 0.2, hardest=True, ignored=ignored), rtol=1e-6
    )


def test_collapse_is_noticed_and_told():
    rng = np.random.default_rng(2)
    alike = jnp.tile(unit(rng, 1), (5, 1))
    _, _, metrics = contrast(task(), Features(alike, alike), 1)
    np.testing.assert_allclose(metrics["triplet_loss"], 0.4, rtol=1e-5)  # twice the margin
    assert metrics[COLLAPSED] == 1
    means = {name: float(value) for name, value in metrics.items()}
    warning = TripletRecipe(small_vse.config()).watch(means)
    assert "collapsed: all similarities of a batch are alike" in warning
    assert "config.task.warmup_steps" in warning
    with pytest.raises(CollapsedError, match="stopped, since it has collapsed"):
        TripletRecipe(small_vse.config(task=dict(on_collapse="stop"))).watch(means)
    _, _, metrics = contrast(task(), Features(unit(rng, 5), unit(rng, 5)), 1)
    assert metrics[COLLAPSED] == 0
    assert not TripletRecipe(small_vse.config()).watch(means | {COLLAPSED: 0.9})


def test_an_image_never_loses_all_of_its_patches():
    config = small_vse.config(images=True)
    model = small_vse.model(config, small_vse.params(config))
    image = jnp.asarray(small_vse.make_batch(images=True)["image"], jnp.float32)
    key = jax.random.key(0)
    whole = model.learn_image(image)
    assert np.isfinite(model.learn_image(image, dropped=0.99, key=key)).all()
    assert np.abs(model.learn_image(image, dropped=0.5, key=key) - whole).max() > 1e-3
    np.testing.assert_array_equal(model.learn_image(image, dropped=0.5), whole)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(accumulation=2), "accumulation=2 does not go with config.model.region_mlp=8"),
        (dict(task=dict(dropped_patches=0.2)), "dropped_patches=0.2 is of models that see images"),
        (dict(model=dict(region_width=0)), "region_width=0"),
        (dict(model=dict(text_length=20)), "text_length=20 must be 3 to"),
        (dict(model=dict(heads=("retrieval", "itm"))), "'itm' unknown; use some of retrieval, vqa"),
        (dict(model=dict(pooling="max")), "pooling.*is not allowed; use one of gpo, mean"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    config = small_vse.config(**fields)
    config.data.source = "somewhere"
    with pytest.raises(ConfigError, match=message):
        Recipe(config).check(1)


def test_a_model_that_sees_images_needs_their_sizes():
    fields = {**small_vse.config().model, "num_regions": 0}
    with pytest.raises(ConfigError, match="sees images, which needs config.model.image_size, "):
        check_sizes(fields, (1, 1, 1))


def test_data_of_regions_need_a_model_of_regions():
    config = small_vse.config(images=True, task=dict(dropped_patches=0.0))
    config.data = small_vse.config().data
    config.data.source = "somewhere"
    config.evals = {}
    with pytest.raises(ConfigError, match="config.model.num_regions=0: data of regions need a"):
        Recipe(config).check(1)
