"""Recipes of ViLBERT: which there are, what they read, and what they refuse before anything is
compiled.
"""

import pytest

from configs import vilbert
from tests import tiny, tiny_vilbert
from tests.saved_visual_tokenizer import save_visual_tokenizer
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import build_program

ARGUMENTS = ("tiny", "base", "tiny,vqa", "tiny,nlvr2", "tiny,rank", "base,rank")


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_every_recipe_is_possible(argument):
    config = vilbert.get_config(argument)
    config.data.source = config.data.source or "/nowhere"
    config.tokenizer = config.tokenizer or "emoji"
    if "," in argument:
        config.init_from = "none"
    else:
        config.visual_tokenizer = "synthetic"
    recipe = Recipe(config)
    recipe.check(8, 2**35)
    assert recipe.forward_flops() > 0
    assert set(recipe.task.reads) <= set(recipe.data.rows.columns)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("huge", "size 'huge' is unknown; use one of tiny, base"),
        ("base,vqa", "task 'vqa' is unknown of base; leave it out or use one of rank"),
        ("tiny,384", "task '384' is unknown"),
    ],
)
def test_unknown_ones_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        vilbert.get_config(argument)


def test_patches_need_codes_that_fit(tmp_path):
    save_visual_tokenizer(tmp_path)  # 16 codes of 4 pixels
    config = tiny_vilbert.config(model={**tiny_vilbert.PATCHES, "region_classes": 16})
    with pytest.raises(ConfigError, match="visual_tokenizer is not set.*region_classes=0"):
        Recipe(config).check(1)
    config.visual_tokenizer = str(tmp_path)
    recipe = Recipe(config)
    recipe.check(1)
    recipe.task.open()
    assert recipe.task.frozen_meta()["visual_tokenizer"]["step"] == 3
    assert recipe.task.describe().startswith("16 codes of")
    config.model.region_classes = 12
    with pytest.raises(ConfigError, match="16 codes, not config.model.region_classes=12"):
        Recipe(config).task.open()
    config.model.update(region_classes=16, image_size=12, patch_size=6)
    with pytest.raises(ConfigError, match="model.patch_size=6"):
        Recipe(config).task.open()
    # Without classes nothing is needed.
    config.visual_tokenizer, config.model.region_classes = None, 0
    recipe = Recipe(config)
    recipe.check(1)
    assert recipe.task.load_frozen() == {} and recipe.task.frozen_meta() == {}


def test_impossible_ones_are_refused():
    def refuse(message, **changes):
        config = tiny_vilbert.config(**changes)
        with pytest.raises(ConfigError, match=message):
            Recipe(config).check(1)

    refuse("heads=.* lacks region", model=dict(heads=("itm", "mlm")))
    refuse("batch_size=1 has no other caption", batch_size=1)
    refuse("region_rate=1.0 must be", task=dict(region_rate=1.0))
    refuse("max_masked_tokens", model=dict(text_length=4))


def test_patches_and_regions_are_read_by_the_same_step(tmp_path):
    save_visual_tokenizer(tmp_path)
    patches = tiny_vilbert.config(model={**tiny_vilbert.PATCHES, "region_classes": 16})
    patches.visual_tokenizer = str(tmp_path)
    for config in (patches, tiny_vilbert.config()):
        mesh = tiny.mesh_of((1, 1, 1))
        recipe = Recipe(config)
        recipe.task.open()
        program = build_program(recipe, mesh)
        assert set(recipe.abstract_batch()) == set(recipe.task.reads)
        assert program.abstract_state.params["region_embedding"]
