"""The recipe of segmentation: official numbers, refusals, and what starts a model."""

import jax
import numpy as np
import pytest
from flax import nnx

from configs import finetune_segment
from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.made.masks import CLASSES
from vlmo_jax.models.build import abstract_model, abstract_params
from vlmo_jax.recipes import Recipe

OWN = ("init_from=none",)


def recipe(*settings, size="tiny"):
    return Recipe(tiny.parse(f"finetune_segment:{size}", *OWN, *settings))


@pytest.mark.parametrize(
    "size, rate, decay, blocks",
    [
        ("base", 7e-4, 0.65, (3, 5, 7, 11)),
        ("base_22k", 3e-5, 0.9, (3, 5, 7, 11)),
        ("large_22k", 2e-5, 0.95, (7, 11, 15, 23)),
    ],
)
def test_official_numbers(size, rate, decay, blocks):
    config = finetune_segment.get_config(f"{size},640")
    assert (config.optimizer.learning_rate, config.optimizer.layer_decay) == (rate, decay)
    assert config.model.blocks == blocks and config.model.head_channels == config.model.width
    assert (config.batch_size, config.steps, config.model.image_size) == (16, 160_000, 640)
    assert config.evals.segmentation.stride == 426
    assert finetune_segment.get_config(size).evals.segmentation.stride == 341


def test_xla_counts_as_many_flops():
    """The formula against XLA's own count."""
    base = recipe("model.scan_layers=False", "model.remat=none", size="base")
    graphdef, _ = abstract_model(base.make_model)

    def heads(params, image):
        return nnx.merge(graphdef, params).learn_class_maps(image)

    image = jax.ShapeDtypeStruct((1, 512, 512, 3), np.float32)
    counted = jax.jit(heads).lower(abstract_params(base.make_model), image).cost_analysis()
    # XLA leaves out what convolutions multiply beyond the edges.
    assert counted["flops"] == pytest.approx(base.task.forward_flops(), rel=0.03)


@pytest.mark.parametrize(
    "setting, why",
    [
        ("evals.segmentation.stride=200", "leaves pixels between windows"),
        ("evals.segmentation.scales=()", "scales is empty"),
        ("data.resize_range=(2.0,1.0)", "resize_range"),
        ("model.blocks=(0,1,2,9)", "model.blocks"),
    ],
)
def test_impossible_settings_are_refused(setting, why):
    with pytest.raises(ConfigError, match=why):
        recipe(setting).check(1)


def test_sheets_become_batches_with_names():
    ready = recipe("batch_size=4", "evals.segmentation.splits=('validation',)")
    ready.check(1)
    ready.open()
    assert tuple(ready.data.classes) == CLASSES
    with ready.batches(0) as batches:
        batch = next(iter(batches))
    assert batch["image"].shape == (4, 128, 128, 3)
    assert set(np.unique(batch["mask"])) <= {*range(10), 255}
    assert len(np.unique(batch["mask"])) > 2
    wrong = recipe("model.num_classes=9", "evals.segmentation.splits=('validation',)")
    with pytest.raises(ConfigError, match="list has 10 classes; set .*num_classes=10"):
        wrong.open()
