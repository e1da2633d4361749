"""Fine-tuning for retrieval: the official recipe, and what is refused before anything compiles."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from configs import finetune_retrieval
from tests import tiny
from tests.recipes.shapes import assert_fits
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets import Record
from vlmo_jax.models.flops import model_flops
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.evaluations import splits


def parse(*arguments, recipe="tiny"):
    return tiny.parse(f"finetune_retrieval:{recipe}", "init_from=none", *arguments)


@pytest.mark.parametrize(
    "name, steps, rate, drop_path, protocol",
    [
        ("base,coco", 3000, 3e-5, 0.2, "coco_karpathy_5k_all"),
        ("base_plus,coco", 3000, 3e-5, 0.2, "coco_karpathy_5k_all"),
        ("large,coco", 3000, 2e-5, 0.2, "coco_karpathy_5k_all"),
        ("base,flickr30k", 1500, 3e-5, 0.15, "flickr30k_karpathy_1k"),
        ("base_plus,flickr30k", 1500, 3e-5, 0.2, "flickr30k_karpathy_1k"),
        ("large,flickr30k", 1500, 2e-5, 0.2, "flickr30k_karpathy_1k"),
    ],
)
def test_the_paper_s_recipes(name, steps, rate, drop_path, protocol):
    config = finetune_retrieval.get_config(name)
    model, optimizer, data = config.model, config.optimizer, config.data
    assert (config.steps, optimizer.warmup_steps, config.batch_size) == (steps, steps // 10, 3072)
    assert (model.image_size, model.text_length, model.drop_path_rate) == (384, 40, drop_path)
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.betas) == (
        rate,
        0.01,
        (0.9, 0.98),
    )
    assert (optimizer.epsilon, optimizer.schedule, optimizer.power) == (1e-8, "polynomial", 1.0)
    assert (optimizer.end_learning_rate, optimizer.layer_decay) == (0.0, 1.0)
    assert (data.crop_scale, data.flip, data.randaugment) == ((0.5, 1.0), True, (2, 7))
    assert data.randaugment_fill == (128, 128, 128) and data.max_masked_tokens == 0
    assert tuple(data.mean) == tuple(data.std) == (0.5, 0.5, 0.5)
    assert model.heads == ("retrieval",) and not config.task.mask_duplicates
    # Karpathy's train and restval are "train" in what is built of them.
    assert (data.split, config.evals.retrieval.protocol) == ("train", protocol)


@pytest.mark.parametrize("dataset, top_k", [("coco", 256), ("flickr30k", 128)])
def test_with_matching_the_test_is_re_ranked(dataset, top_k):
    config = finetune_retrieval.get_config(f"base,{dataset},matching,224")
    assert config.model.heads == ("retrieval", "itm") and config.model.image_size == 224
    assert (config.evals.retrieval.rerank_top_k, config.evals.retrieval.rerank) == (
        top_k,
        "replace",
    )
    assert config.evals.validation.rerank_top_k == 0 and not config.optimizer.frozen


def test_costs_are_counted():
    flops = model_flops(finetune_retrieval.get_config("base,coco").model)
    dual = Recipe(parse("data.source=emoji", "tokenizer=emoji", recipe="base,coco"))
    matching = Recipe(parse("data.source=emoji", "tokenizer=emoji", recipe="base,coco,matching"))
    assert dual.forward_flops() == flops.image + flops.text
    assert matching.forward_flops() == flops.image + flops.text + 3 * flops.match


def test_batches_of_the_input_fit_the_recipe():
    recipe = Recipe(parse("batch_size=4", "accumulation=1"))
    recipe.check(1)
    recipe.open()
    with recipe.batches(0) as batches:
        assert_fits(next(batches), recipe)


@pytest.mark.parametrize("argument", ["base,nlvr2", "base,coco,flickr30k", "base,0", "base,,"])
def test_odd_arguments_are_refused(argument):
    with pytest.raises(ValueError, match="behind the size stand a data set"):
        finetune_retrieval.get_config(argument)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("init_from=",), "config.init_from is not set: this recipe starts from stage 3"),
        (
            ("evals.retrieval.rerank_top_k=8",),
            r"config.model.heads=\('retrieval',\) lacks itm, which config.evals.retrieval.kind",
        ),
        (("evals.retrieval.rerank=multiply",), "rerank='multiply' is not allowed; use one of rep"),
        (("batch_size=1", "accumulation=1"), "config.batch_size=1 leaves no negatives"),
        (("task.contrast_chunk=5",), "config.task.contrast_chunk=5 does not divide the"),
        (
            ("evals.retrieval.protocol=flickr30k_karpathy_1k",),
            "config.evals.retrieval.protocol='flickr30k_karpathy_1k': emoji_unseen_concepts:"
            " protocol=.* is about 1000 images and this split has 100; use that split, or",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_refused_before_anything_compiles(arguments, message):
    with pytest.raises(ConfigError, match=message):
        recipe = Recipe(parse(*arguments))
        recipe.check(1)
        recipe.open()


def test_more_candidates_than_there_are_are_refused():
    recipe = Recipe(parse("evals.retrieval.rerank_top_k=101", recipe="tiny,matching"))
    recipe.check(1)
    with pytest.raises(
        ConfigError,
        match="rerank_top_k=101 is more than the 100 candidates of a search in emoji_unseen_c",
    ):
        recipe.open()


def test_an_image_without_captions_is_named(monkeypatch):
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
    whole = Record(file.getvalue(), ("a cat",), (), "1.png")
    bare = dataclasses.replace(whole, texts=(), image_id="2.png")
    monkeypatch.setattr(splits, "evaluation_splits", lambda *_: {"mine_test": [whole, bare]})
    recipe = Recipe(parse())
    recipe.check(1)
    with pytest.raises(ConfigError, match="mine_test: image '2.png' has 0 captions .*leave it out"):
        recipe.open()
