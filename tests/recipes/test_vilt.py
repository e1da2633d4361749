"""ViLT as recipes: what is refused, how it is searched with, and what fine-tuning starts from."""

import numpy as np
import pytest

from tests import tiny, tiny_vilt
from tests.recipes.full_size import build
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import MODELS, abstract_params, count_params, model_maker, pass_flops
from vlmo_jax.models.flops import block_flops
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.abilities import DualEncoder, FusesPairs, Matcher


def recipe(task="", evals=(), **changes):
    config = tiny_vilt.config(task=task, **changes)
    config.data.source, config.tokenizer = config.data.source or "emoji", "emoji"
    config.model.vocab_size = 4000
    if task:
        config.init_from = "none"
    if evals:
        config.evals.retrieval.update(dict(evals))
    return Recipe(config)


@pytest.mark.parametrize("size", ["tiny", "base", "base,vqa", "base,nlvr2", "base,rank"])
def test_builds_at_full_size(size):
    made, _, _, metrics = build(f"vilt:{size}")
    losses = {
        "": {"itm_loss", "mlm_loss", "wpa_loss"},
        "vqa": {"vqa_loss"},
        "nlvr2": {"nlvr2_loss"},
        "rank": {"rank_loss"},
    }[size.partition(",")[2]]
    assert {name for name in metrics if name.endswith("_loss")} == losses
    model = made.config.model
    assert MODELS["vilt"].num_params(model) == count_params(abstract_params(model_maker(model)))
    if size == "base":
        columns = made.data.rows.columns
        assert columns["image"].shape == (608, 608, 3) and columns["image_grid"].shape == (2,)


def test_flops_are_those_of_blocks_over_text_and_patches():
    fields = tiny.parse("vilt:base").model
    tokens = 40 + 1 + 200
    patches = 2 * 200 * 3 * 32**2 * 768
    match = 12 * block_flops(tokens, 768, 3072) + patches
    found = pass_flops(fields)
    assert found.match == match and (found.image, found.text) == (0, 0)
    words = 40 * (2 * 768**2 + 2 * 768 * 30_522)
    alignment = 40 * 201 * (2 * 768 + 4 * 50)
    assert build("vilt:base").recipe.forward_flops() == 2 * match + words + alignment
    assert (
        build("vilt:base,rank").recipe.forward_flops()
        == 16 * pass_flops(tiny.parse("vilt:base,rank").model).match
    )


def test_every_pair_is_scored_where_a_model_only_fuses_or_it_is_asked_for():
    made = recipe()
    evaluation = made.evaluations["retrieval"]
    assert evaluation.needs is FusesPairs
    made.check(1)
    with pytest.raises(ConfigError, match="rerank_top_k=3 ranks again what vectors have found"):
        recipe(evals={"rerank_top_k": 3}).check(1)
    with pytest.raises(ConfigError, match="has not what config.evals.retrieval asks .*DualEncoder"):
        recipe(evals={"scoring": "vectors"})
    config = tiny.config()
    config.data.source, config.tokenizer = "emoji", "emoji"
    assert Recipe(config).evaluations["retrieval"].needs is DualEncoder
    config.evals.retrieval.rerank_top_k = 2
    assert Recipe(config).evaluations["retrieval"].needs is Matcher
    config.evals.retrieval.rerank_top_k = 0
    config.evals.retrieval.scoring = "pairs"
    assert Recipe(config).evaluations["retrieval"].needs is FusesPairs


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            dict(model=dict(longest_side=8)),
            "longest_side=8 is less than config.model.image_size=16",
        ),
        (dict(model=dict(patch_size=7)), "config.model.image_size=16"),
        (dict(model=dict(heads=("itm", "itc"))), "'itc' unknown; use some of mlm, itm, rank, vqa"),
        (dict(model=dict(heads=("mlm",))), "lacks itm, which config.evals.retrieval.kind"),
        (dict(model=dict(text_length=2)), "text_length=2"),
        (dict(batch_size=1), "leaves no other images"),
        (dict(task="rank", batch_size=8), "num_false=15 other texts of an image come from its"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes).check(1)


def test_unknown_sizes_and_tasks():
    with pytest.raises(ValueError, match="size 'huge' is unknown; use one of tiny, base"):
        tiny.parse("vilt:huge")
    with pytest.raises(ValueError, match="task 'itc' is unknown; leave it out or use one of vqa"):
        tiny.parse("vilt:base,itc")


def test_ranking_starts_as_matching_says_match(tmp_path):
    params, start = tiny_vilt.params(), tiny_vilt.params(seed=1, task="rank")
    pretrained, config = tiny_vilt.config(), tiny_vilt.config(task="rank")
    meta = {"config": {"model": pretrained.model.to_dict()}}
    save_params(tmp_path / "checkpoints", params, meta)
    abstract = abstract_params(model_maker(config.model))
    wanted = tiny_vilt.on_one_device(abstract)
    found, report = warm_start(
        tmp_path,
        wanted,
        lambda: start,
        rules=config.init_rules,
        fresh=config.init_fresh,
        model=config.model.to_dict(),
    )
    np.testing.assert_array_equal(found["rank_head"]["kernel"], params["itm_head"]["kernel"][:, 1:])
    np.testing.assert_array_equal(found["rank_head"]["bias"], params["itm_head"]["bias"][1:])
    np.testing.assert_array_equal(found["norm"]["scale"], params["norm"]["scale"])
    assert set(report.unused) == {
        f"mlm_head/{name}"
        for name in (
            *(f"dense/{leaf}" for leaf in ("kernel", "bias")),
            *(f"norm/{leaf}" for leaf in ("scale", "bias")),
            *(f"decoder/{leaf}" for leaf in ("kernel", "bias")),
        )
    }


@pytest.mark.parametrize("task", ["vqa", "nlvr2"])
def test_fine_tuning_starts_from_pre_training(tmp_path, task):
    meta = {"config": {"model": tiny_vilt.config().model.to_dict()}}
    params = tiny_vilt.params()
    save_params(tmp_path / "checkpoints", params, meta)
    config = tiny_vilt.config(task=task)
    wanted = tiny_vilt.on_one_device(abstract_params(model_maker(config.model)))
    found, report = warm_start(
        tmp_path,
        wanted,
        lambda: tiny_vilt.params(seed=1, task=task),
        rules=config.init_rules,
        fresh=config.init_fresh,
        model=config.model.to_dict(),
    )
    types = found["modality_type"]
    np.testing.assert_array_equal(types[:2], params["modality_type"])
    if task == "nlvr2":
        np.testing.assert_array_equal(types[2], types[1])
    assert all(name.startswith(f"{task}_head/") for name in report.fresh)
