"""Weights of joined data sets as a field of a config: pairs, images and texts."""

import itertools

import numpy as np
import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets import open_source
from vlmo_jax.datasets.examples import ExampleSource
from vlmo_jax.datasets.record_sources import JoinedSource
from vlmo_jax.input.sampling import MixedOrder, RecordOrder
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.images import ImagesData

WEIGHTED = ("data.source=emoji+openclipart", "data.weights=(1.0,3.0)", "data.split=train[:90]")


def parse(*arguments, recipe="stage3"):
    """The config of a command line; it evaluates nothing."""
    config = tiny.parse(f"{recipe}:tiny", *arguments)
    config.evals = {}
    return config


def open_data(*arguments, recipe="stage3"):
    """The open data of a command line."""
    recipe = Recipe(parse(*arguments, recipe=recipe))
    recipe.data.check()
    recipe.data.open(training=True)
    return recipe.data


def test_pairs_are_drawn_by_weight_from_any_step():
    small = ("batch_size=16", "steps=6", "model.image_size=16", "data.crop_scale=(1.0,1.0)")
    data = open_data(*WEIGHTED, *small)
    with data.batches(0) as batches:
        batches = list(batches)
    alone = open_data("data.source=openclipart", "data.split=train[:90]", *small, "steps=60")
    with alone.batches(0) as own:
        clip_art = set(itertools.chain.from_iterable(batch["image_id"].tolist() for batch in own))
    found = [sum(int(i) in clip_art for i in batch["image_id"]) for batch in batches]
    assert abs(sum(found[:4]) - 48) <= 2 and abs(sum(found) - 72) <= 4
    with data.batches(4) as rest:
        for batch, expected in zip(rest, batches[4:], strict=True):
            for name, values in batch.items():
                np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("recipe", ["stage3", "visual_tokenizer"])
def test_the_run_says_shares_and_epochs(recipe):
    said = open_data(*WEIGHTED, "batch_size=10", "steps=72", recipe=recipe).describe()
    assert said.startswith(
        "180 training images from emoji+openclipart; by config.data.weights emoji 25.0% (2.00"
        " epochs of its 90 records), openclipart 75.0% (6.00 epochs of its 90 records)"
    )


def test_texts_are_mixed_too():
    data = open_data(
        "data.source=glosses+embedded:glosses",
        "data.weights=(1,1)",
        "data.split=train[:50]",
        "data.num_workers=0",
        recipe="stage2",
    )
    assert "glosses 50.0%" in data.describe()
    with data.batches(0) as batches:
        assert next(batches)["token_mask"].any(1).all()


def test_without_weights_all_records_are_alike():
    config = parse("data.source=emoji+openclipart", "data.split=train[:90]")
    source = open_source(config.data.source, config.data.split)
    order = opening.record_order(config, source)
    assert isinstance(order, RecordOrder)
    assert [order[i] for i in range(9)] == [RecordOrder(180, config.seed)[i] for i in range(9)]
    assert not opening.describe_mixture(config, source)
    with config.unlocked():
        del config.data.weights  # as in the config of an earlier version
    assert isinstance(opening.record_order(config, source), RecordOrder)
    Recipe(config).data.check()
    config = parse(*WEIGHTED)
    assert isinstance(opening.record_order(config, source), MixedOrder)


def test_a_set_of_a_mixture_that_has_nothing_to_train_on_is_refused():
    source = JoinedSource([ExampleSource(["a record"], [1]), ExampleSource([], [])])
    with pytest.raises(ConfigError, match=r"data.weights=\(1.0, 3.0\), .*has no records"):
        opening.record_order(parse(*WEIGHTED), source)


def test_one_weight_for_one_set_changes_nothing():
    config = parse("data.source=emoji", "data.weights=(2.0,)")
    ImagesData(config).check()
    assert isinstance(opening.record_order(config, range(9)), RecordOrder)


@pytest.mark.parametrize(
    "source, weights, message",
    [
        (
            "emoji+openclipart",
            "(1.0,)",
            r"must be one number for each of the 2 data sets of .*emoji\+openc",
        ),
        ("emoji", "(1.0,2.0)", "for each of the 1 data sets of config.data.source='emoji'"),
        ("emoji+openclipart", "(1.0,-2.0)", r"weights\[1\]=-2.0 must be more than 0"),
        ("emoji+openclipart", "(0.0,1.0)", r"weights\[0\]=0.0 must be more than 0"),
        ("emoji+openclipart", "('a',1.0)", r"weights\[0\]='a' must be a number"),
    ],
)
def test_weights_that_do_not_fit_are_refused(source, weights, message):
    with pytest.raises(ConfigError, match=message):
        open_data(f"data.source={source}", f"data.weights={weights}")
