"""Stage 1's recipe: reads its visual tokenizer from a checkpoint, trains, and refuses what cannot
be.
"""

import json
import math
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from configs import stage1
from tests import tiny
from tests.recipes.full_size import build
from tests.recipes.shapes import assert_fits
from tests.saved_visual_tokenizer import save_visual_tokenizer
from vlmo_jax.checkpoints import saved_params, store
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import abstract_model
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.tasks.saved_visual_tokenizer import VisualTokenizer
from vlmo_jax.tasks.visual_tokenizer import encode_codes
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.loop import train
from vlmo_jax.training.optimizer import match_rules

SMALL = (
    "data.source=emoji",
    "model.width=16",
    "model.mlp_dim=16",
    "model.num_heads=2",
    "model.depth=2",
    "model.vocab_size=16",
    "model.image_size=32",
    "model.patch_size=8",
    "data.tokenizer_image_size=16",
    "data.num_masked=6",
    "data.min_block=2",
    "batch_size=8",
    "steps=4",
    "evals.masked_images.splits=('unseen_artist[:12]',)",
    "evals.masked_images.batch_size=8",
    "optimizer.warmup_steps=1",
    "checkpoint.every_steps=2",
    "evals.masked_images.every_steps=4",
)


def parse(*arguments, recipe="tiny"):
    """The config of a command line."""
    return tiny.parse(f"stage1:{recipe}", *arguments)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    save_visual_tokenizer(directory)
    return directory


def check(*arguments, recipe_name="tiny", devices=8):
    """What `train` checks before it opens any data, and the opening."""
    recipe = Recipe(parse(*arguments, recipe=recipe_name))
    recipe.check(devices)
    recipe.open()
    return recipe


def test_base_has_beit_s_parameters():
    state = build("stage1:base").program.abstract_state
    moments, params = (
        sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
        for tree in (state.opt_state, state.params)
    )
    # 12 blocks of 7,088,640, the head 6,299,648, patches 590,592, one table 732 x 12, four vectors
    assert params == 91_965_776
    assert moments == 2 * params + 1  # and the count of steps: the visual tokenizer has none


def test_the_paper_s_recipe_is_beit_s():
    for name, scale, masked in (("base", 0.1, 75), ("large", 1e-5, 75), ("base,384", 0.1, 220)):
        config = stage1.get_config(name)
        model, optimizer, data = config.model, config.optimizer, config.data
        assert (config.batch_size, config.steps, optimizer.warmup_steps) == (
            2048,
            150 * 6932,
            10_000,
        )
        assert (optimizer.learning_rate, optimizer.end_learning_rate, optimizer.schedule) == (
            1.5e-3,
            1e-5,
            "cosine",
        )
        assert (optimizer.weight_decay, optimizer.betas, optimizer.clip_norm) == (
            0.05,
            (0.9, 0.999),
            3.0,
        )
        assert (model.vocab_size, model.drop_path_rate, model.layer_scale, model.shared_table) == (
            8192,
            0.1,
            scale,
            True,
        )
        assert (data.num_masked, data.min_block, data.color_jitter, data.crop_scale) == (
            masked,
            16,
            (0.4, 0.4, 0.4, 0.0),
            (0.08, 1.0),
        )
        assert data.tokenizer_image_size * 2 == model.image_size


@pytest.mark.parametrize("name", ["base", "base_plus"])
def test_decay_acts_on_matrices_mask_token_and_position_table_alone(name):
    recipe = Recipe(parse("visual_tokenizer=synthetic", recipe=name))
    shapes = nnx.to_pure_dict(abstract_model(recipe.make_model)[1])
    rules = [(regex, False) for regex in recipe.config.optimizer.no_decay] + [(".*", True)]
    decays = nnx.traversals.flatten_mapping(match_rules(shapes, rules, key="optimizer.no_decay"))
    expected = ("patch", "mask_token", "qkv", "out", "kernel", "relative_position_bias")
    assert {path for path, decay in decays.items() if decay} == {
        path for path in decays if path[-1] in expected
    }


def test_batches_of_the_input_and_made_up_ones_fit_the_recipe(tokenizer):
    recipe = check(*SMALL, f"visual_tokenizer={tokenizer}", "data.num_threads=2")
    with recipe.batches(0) as batches:
        batch = next(batches)
    assert_fits(batch, recipe)
    assert_fits(recipe.synthetic_batch(), recipe)
    assert (
        recipe.forward_flops()
        == 2 * 2 * (4 * 17 * 16**2 + 2 * 17**2 * 16 + 2 * 17 * 16**2)
        + 2 * 16 * 192 * 16
        + 2 * 6 * 16 * 16
    )


def test_a_run_trains_evaluates_draws_and_goes_on(tokenizer, tmp_path, capsys):
    arguments = (
        *SMALL,
        f"visual_tokenizer={tokenizer}",
        "mesh.data=1",
        "mesh.tensor=1",
        "mesh.fsdp=8",
        "model.depth=2",
    )
    config = parse(*arguments)
    saved = VisualTokenizer(tokenizer).load()
    assert train(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*lines)
    assert {
        "train/mim_loss",
        "train/mim_accuracy",
        "eval/masked_images/emoji_unseen_artist[:12]/mim_loss",
    } <= names
    assert (tmp_path / "masked_images.png").stat().st_size > 10_000
    meta = saved_params.SavedParams(tmp_path).meta
    assert meta["preprocessing"]["tokenizer_image_size"] == 16 and meta["tokenizer"] is None
    assert "16 codes" in capsys.readouterr().out
    restored = saved_params.SavedParams(tmp_path)
    assert not [path for path in restored.shapes if path[0] == "encoder"]
    jax.tree.map(np.testing.assert_array_equal, VisualTokenizer(tokenizer).load(), saved)
    assert train(config, tmp_path)  # nothing is left to do

    config.mode = "eval"
    scores = evaluate(config, tmp_path)
    last = [
        line for line in lines if "eval/masked_images/emoji_unseen_artist[:12]/mim_loss" in line
    ][-1]
    np.testing.assert_allclose(
        scores["eval/masked_images/emoji_unseen_artist[:12]/mim_loss"],
        last["eval/masked_images/emoji_unseen_artist[:12]/mim_loss"],
        rtol=1e-5,
    )


def test_codes_are_those_of_the_saved_tokenizer(tokenizer):
    params = save_visual_tokenizer(tokenizer.parent / "again")
    loaded = VisualTokenizer(tokenizer)
    assert (loaded.vocab_size, loaded.stride, loaded.has_decoder) == (16, 4, True)
    graphdef, shapes = loaded.abstract()
    values = loaded.load()
    assert "decoder" not in values and jax.tree.map(np.shape, values) == jax.tree.map(
        lambda x: x.shape, shapes
    )
    jax.tree.map(np.testing.assert_array_equal, loaded.load(decoder=True), params)
    image = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    whole, _ = loaded.abstract(decoder=True)
    codes = encode_codes(nnx.merge(graphdef, values), image)
    np.testing.assert_array_equal(codes, encode_codes(nnx.merge(whole, params), image))
    assert codes.shape == (2, 16) and len(np.unique(codes)) > 1


def test_a_tokenizer_without_decoder_serves_but_draws_nothing(tmp_path):
    save_visual_tokenizer(tmp_path / "dalle", decoder=False)
    recipe = check(*SMALL, f"visual_tokenizer={tmp_path / 'dalle'}")
    mesh = tiny.mesh_of((1, 1, 1))
    with jax.set_mesh(mesh):
        evaluation = recipe.make_evaluations(None, mesh)["masked_images"]
    assert not evaluation.draw and len(evaluation.evaluators) == 1


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("visual_tokenizer=",),
            (
                "config.visual_tokenizer is not set; give --config.visual_tokenizer=DIR, the work"
                " folder"
            ),
        ),
        (
            ("visual_tokenizer=/nowhere",),
            "config.visual_tokenizer='/nowhere': no checkpoint in /nowhere",
        ),
        (
            ("model.vocab_size=8",),
            "has 16 codes, not config.model.vocab_size=8; set --config.model.vocab_size=16",
        ),
        (
            ("model.vocab_size=15", "mesh.data=4", "mesh.tensor=-1"),
            "config.model.vocab_size=15 does not divide over config.mesh.tensor .2.",
        ),
        (
            ("data.tokenizer_image_size=32",),
            "code for every 4 x 4 pixels.*4 x 4 patches.*set --config.data.tokenizer_image_size=16",
        ),
        (
            ("data.tokenizer_image_size=18",),
            (
                "config.data.tokenizer_image_size=18 does not divide over the patches a"
                " side.*multiple of 4"
            ),
        ),
        (
            ("data.tokenizer_image_size=0",),
            "config.data.tokenizer_image_size=0 must be at least 1 pixel",
        ),
        (
            ("data.num_masked=16",),
            "config.data.num_masked=16 patches must be at least 1 and fewer than all 16",
        ),
        (
            ("data.min_block=7",),
            "config.data.min_block=7 patches must be at least 1 and at most num_masked=6",
        ),
        (("data.color_jitter=(0.4,)",), "config.data.color_jitter=.0.4,. must be strengths"),
        (("data.crop_scale=(0.5,)",), "config.data.crop_scale=.0.5,. must be two numbers"),
        (("data.std=(0.5,0.5,0.0)",), "config.data.std"),
        (
            ("evals.masked_images.batch_size=12",),
            "config.evals.masked_images.batch_size=12 does not divide over the batch shards",
        ),
        (("model.position=both",), "config.model.position='both' is not allowed"),
        (("data.split=nowhere",), "config.data.split='nowhere': split='nowhere' is not in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_impossible_settings_are_refused(tokenizer, arguments, message):
    with pytest.raises(ConfigError, match=message):
        check(*SMALL, f"visual_tokenizer={tokenizer}", *arguments)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    save_visual_tokenizer(tmp_path, kind="beit")
    with pytest.raises(
        ConfigError,
        match=(
            "has a model of kind 'beit', not 'discrete_vae'; give the work folder of a run of"
            " configs/visual_tokenizer.py"
        ),
    ):
        check(*SMALL, f"visual_tokenizer={tmp_path}")
    with pytest.raises(ConfigError, match="config.data.source is not set"):
        check("visual_tokenizer=x", recipe_name="base")


def test_a_run_does_not_go_on_with_another_visual_tokenizer(tokenizer, tmp_path):
    first, other = tmp_path / "first", tmp_path / "other"
    shutil.copytree(tokenizer, first)
    save_visual_tokenizer(other, decoder=False)
    settings = (*SMALL, "steps=2", "evals.masked_images.splits=('unseen_artist[:8]',)")
    assert train(parse(*settings, f"visual_tokenizer={first}"), tmp_path / "run")
    meta = saved_params.SavedParams(tmp_path / "run").meta["frozen"]["visual_tokenizer"]
    assert meta["step"] == 3 and meta == VisualTokenizer(first).identity()
    params, saved = VisualTokenizer(first).load(decoder=True), saved_params.SavedParams(other).meta
    params["encoder"]["output"]["bias"] = params["encoder"]["output"]["bias"] + 1
    shutil.rmtree(first)
    store.save_params(first / "checkpoints", params, saved)
    with pytest.raises(ConfigError, match="with other contents of config.visual_tokenizer"):
        train(parse(*settings, f"visual_tokenizer={first}"), tmp_path / "run")
