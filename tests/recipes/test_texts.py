"""Stage 2's recipe: freezes what the official code freezes, and refuses what cannot be."""

import json
import math

import jax
import numpy as np
import pytest
from flax import nnx

from configs import stage2
from tests import tiny
from tests.official_textmlm import model_fields, places_of
from tests.paths import ROOT
from tests.recipes.full_size import build
from tests.recipes.shapes import assert_fits
from vlmo_jax.checkpoints import store
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import abstract_model
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.loop import train
from vlmo_jax.training.partition import Partition, rule_paths

FIXTURE = ROOT / "tests" / "data" / "vlmo" / "tiny_base_textmlm.json"
SMALL = (
    "model.width=16",
    "model.mlp_dim=32",
    "model.num_heads=2",
    "model.depth=2",
    "model.text_length=12",
    "batch_size=8",
    "data.max_masked_tokens=3",
    "evals.masked_text.splits=('validation[:40]',)",
    "evals.masked_text.batch_size=32",
    "checkpoint.every_steps=2",
    "optimizer.warmup_steps=1",
)


def parse(*arguments, recipe="tiny"):
    """The config of a command line."""
    return tiny.parse(f"stage2:{recipe}", *arguments)


def check(*arguments, recipe_name="tiny", devices=8):
    """What `train` checks before it opens any data, and the opening."""
    recipe = Recipe(parse("init_from=none", *arguments, recipe=recipe_name))
    recipe.check(devices)
    recipe.open()
    return recipe


@pytest.mark.parametrize("name", ["stage2:tiny", "stage2:base", "stage2:base_plus", "stage2:large"])
def test_moments_are_those_of_what_trains(name):
    state = build(name).program.abstract_state
    moments, params = (
        sum(math.prod(x.shape) for x in jax.tree.leaves(tree))
        for tree in (state.opt_state, state.params)
    )
    assert 0.4 * params < moments / 2 < 0.66 * params


@pytest.mark.parametrize("name", ["base", "base_plus", "large"])
def test_paper_recipes_are_the_paper_s(name):
    config = stage2.get_config(name)
    model, optimizer, data = config.model, config.optimizer, config.data
    assert (model.text_length, model.text_positions, model.vocab_size, model.drop_path_rate) == (
        196,
        196,
        30522,
        0.1,
    )
    assert (config.batch_size, config.steps, optimizer.warmup_steps, optimizer.learning_rate) == (
        1024,
        200_000,
        2500,
        2e-4,
    )
    assert (optimizer.weight_decay, optimizer.betas, optimizer.epsilon) == (0.01, (0.9, 0.98), 1e-8)
    assert (model.experts, model.heads, data.mask_rate, data.packing) == (
        ("image", "text"),
        ("mlm",),
        0.15,
        True,
    )


def test_what_trains_is_what_the_official_code_trains():
    info = json.loads(FIXTURE.read_text())
    fields = model_fields(info)
    _, abstract = abstract_model(
        lambda rngs: VLMo(**fields, experts=("image", "text"), heads=("mlm",), rngs=rngs)
    )
    params = nnx.to_pure_dict(abstract)
    partition = Partition.by_rules(params, stage2.get_config("base").optimizer.frozen)
    found = set()
    for path, leaf in nnx.traversals.flatten_mapping(params).items():
        choice, names = partition.choices[path], rule_paths(path, leaf.shape)
        found |= (
            {names[i] for i in choice}
            if isinstance(choice, tuple)
            else set(names)
            if choice
            else set()
        )
    places = places_of(fields)
    names_of = lambda name: "/".join(places[name].path).replace(
        "stacked", "text" if "_text." in name else "stacked"
    )
    assert found == {
        names_of(name) for name in set(info["trainable"]) - set(info["trainable_but_grad_none"])
    }


def test_batches_of_the_input_fit_the_recipe():
    recipe = check("batch_size=8")
    with recipe.batches(0) as batches:
        batch = next(batches)
    assert_fits(batch, recipe)
    assert_fits(recipe.synthetic_batch(), recipe)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("init_from=",),
            (
                "config.init_from is not set: this recipe starts from .*stage 1; give"
                " --config.init_from=DIR, .* or --config.init_from=none"
            ),
        ),
        (
            ("data.source=nowhere",),
            (
                "config.data.source='nowhere', config.data.split='train': data set 'nowhere' is"
                " neither .*build_text"
            ),
        ),
        (
            ("data.source=emoji",),
            "config.data.source='emoji', .*emoji holds images with captions, not texts",
        ),
        (
            ("data.split=test",),
            "config.data.split='test'.* is not in .*train .24999., validation .1147.",
        ),
        (
            ("evals.masked_text.splits=('test',)",),
            r"config.evals.masked_text.splits=\('test',\).* is not in",
        ),
        (
            ("evals.masked_text.batch_size=12",),
            "config.evals.masked_text.batch_size=12 does not divide over the batch shards",
        ),
        (
            ("evals.masked_text.every_steps=0",),
            "config.evals.masked_text.every_steps=0 must be more than 0",
        ),
        (
            ("data.max_masked_tokens=31",),
            "config.data.max_masked_tokens=31 must be in 1 .. text_length - 2 = 30",
        ),
        (("data.mask_rate=0.0",), r"config.data.mask_rate=0.0 must be in \(0, 1\)"),
        (
            ("model.text_length=40",),
            "config.model.text_length=40 is more than config.model.text_positions=32",
        ),
        (
            ("model.experts=('text',)",),
            r"config.model.experts=\('text',\) .*use \('image', 'text'\) .stage 2.",
        ),
        (("model.heads=('mlm','clip')",), "'clip' unknown; use some of itc, itm, mlm"),
        (
            ("model.vocab_size=3000",),
            "config.tokenizer=emoji has 4000 tokens, more than config.model.vocab_size=3000",
        ),
        (("batch_size=12",), "config.batch_size=12 does not divide over the batch shards"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check(*arguments)


def test_recipes_of_the_paper_ask_for_data_and_tokenizer():
    with pytest.raises(
        ConfigError,
        match=(
            "config.data.source is not set; give --config.data.source=DIR, a folder made by"
            " .*build_text"
        ),
    ):
        check(recipe_name="base")
    with pytest.raises(ConfigError, match="config.tokenizer is not set"):
        check("data.source=glosses", recipe_name="base")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 4 steps on 8 devices."""
    workdir = tmp_path_factory.mktemp("run")
    assert train(parse("init_from=none", "steps=4", *SMALL), workdir)
    return workdir


def test_a_run_trains_the_language_part_alone(run):
    checkpoints = store.Checkpoints(run / "checkpoints", keep_last=9)
    config = parse("init_from=none", "steps=4", *SMALL)
    mesh = tiny.mesh_of((8, 1, 1))
    with jax.set_mesh(mesh):
        program = tiny.program(config, mesh)
        first, last = (
            program.random_state().params,
            checkpoints.restore(4, program.abstract_state).params,
        )
    checkpoints.close()
    flat = {
        "/".join(map(str, path)): leaf
        for path, leaf in nnx.traversals.flatten_mapping(first).items()
    }
    moved = {
        path: np.asarray(leaf) != np.asarray(flat["/".join(map(str, path))])
        for path, leaf in nnx.traversals.flatten_mapping(last).items()
    }
    for path, difference in moved.items():
        name = "/".join(map(str, path))
        if "stacked" in name:
            assert not difference[:, 0].any() and difference[:, 1].any(), name
        else:
            frozen = name.startswith(
                (
                    "image_embedding/",
                    *(
                        f"transformer/{stack}/{part}/"
                        for stack in ("lower", "upper")
                        for part in ("attention", "norm")
                    ),
                )
            )
            assert difference.any() != frozen, name


def test_a_run_evaluates_and_shows_words_before_and_after(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    name = "eval/masked_text/glosses_validation[:40]/mlm_loss"
    losses = {line["step"]: line[name] for line in lines if name in line}
    assert set(losses) == {0, 4} and losses[4] < losses[0]
    before = json.loads((run / "masked_text.json").read_text())
    assert before and all(len(fill["parts"]) == len(fill["answers"]) + 1 for fill in before)
    assert (run / "masked_text.png").stat().st_size > 10_000
