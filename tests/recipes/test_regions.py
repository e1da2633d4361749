"""Data of regions in a recipe: opened, batched, evaluated, and refused before anything compiles."""

import jax
import numpy as np
import pytest

from tests import small_vse, tiny
from tests.input.test_regions import make_record
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets import records, writer
from vlmo_jax.models.build import abstract_model
from vlmo_jax.recipes import Recipe


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("regions") / "made"
    kind = records.regions_kind(6, 3)
    with writer.DatasetWriter(out, kind=kind, description="for tests") as made:
        for number in range(16):
            made.write("train" if number < 10 else "validation", make_record(number))
    return out


def recipe_of(dataset, **model):
    sizes = dict(region_width=6, num_regions=5, vocab_size=4000, text_positions=16, text_length=16)
    config = small_vse.config(model={**sizes, **model})
    config.data.source = str(dataset)
    config.evals.retrieval.update(batch_size=8)
    recipe = Recipe(config)
    recipe.check(1)
    return recipe


def test_a_recipe_trains_on_and_scores_regions(dataset):
    recipe = recipe_of(dataset)
    recipe.open()
    assert "regions of 10 training images" in recipe.describe_data()
    with recipe.batches(0) as batches:
        batch = next(batches)
    assert set(recipe.abstract_batch()) < set(batch)
    assert batch["regions"].shape == (small_vse.BATCH, 5, 6)
    counts = batch["region_mask"].sum(axis=1)
    assert counts.min() >= 1 and counts.max() <= 5
    assert not batch["regions"][~batch["region_mask"]].any()
    mesh = tiny.mesh_of((1, 1, 1))
    with jax.set_mesh(mesh):
        graphdef, _ = abstract_model(recipe.make_model)
        (evaluation,) = recipe.make_evaluations(graphdef, mesh).values()
        metrics = evaluation.run(small_vse.params(recipe.config), 0)
    assert any(name.endswith("mean_recall") for name in metrics)
    assert np.isfinite(list(metrics.values())).all()
    facts = recipe.evaluations["retrieval"].facts("made_validation")
    assert (facts["images"], facts["texts"]) == (6, 12)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (dict(region_width=8), "config.data.source=.*'image 0'.*set --config.model.region_width=6"),
        (dict(num_regions=1), "more than config.model.num_regions=1; set --config.model.num_reg"),
    ],
)
def test_data_of_other_sizes_are_refused(dataset, model, message):
    with pytest.raises(ConfigError, match=message):
        recipe_of(dataset, **model).open()


def test_images_are_no_regions():
    with pytest.raises(ConfigError, match="holds images with captions, not regions of images"):
        recipe_of("emoji").open()


def test_impossible_shares_are_refused(dataset):
    for name in ("dropped_words", "dropped_regions"):
        recipe = recipe_of(dataset)
        recipe.config.data[name] = 1.0
        with pytest.raises(ConfigError, match=rf"config.data.{name}=1.0 must be in \[0, 1\)"):
            recipe.data.check()
