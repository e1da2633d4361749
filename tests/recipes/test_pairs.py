"""Stage 3's recipe: the paper's numbers, batches that fit, impossible settings refused by name."""

import pytest

from configs import stage3
from tests import tiny
from tests.recipes.shapes import assert_fits
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe


def parse(*arguments, recipe="tiny"):
    """The config of a command line."""
    return tiny.parse(f"stage3:{recipe}", *arguments)


def check(*arguments, recipe_name="tiny", devices=8):
    """What `train` checks before it opens any data."""
    config = parse(*arguments, recipe=recipe_name)
    recipe = Recipe(config)
    recipe.check(devices)
    recipe.open()
    return config


@pytest.mark.parametrize(
    "name, rate, width, heads, depth, upper",
    [
        ("base", 2e-4, 768, 12, 12, 2),
        ("base_plus", 1e-4, 544, 16, 24, 3),
        ("large", 5e-5, 1024, 16, 24, 3),
    ],
)
def test_paper_recipes_are_the_paper_s(name, rate, width, heads, depth, upper):
    config = stage3.get_config(name)
    model, optimizer, data = config.model, config.optimizer, config.data
    assert (model.width, model.num_heads, model.depth, model.num_upper, model.mlp_dim) == (
        width,
        heads,
        depth,
        upper,
        4 * width,
    )
    assert (
        model.image_size,
        model.patch_size,
        model.text_length,
        model.vocab_size,
        model.drop_path_rate,
    ) == (224, 16, 40, 30522, 0.1)
    assert (config.batch_size, config.steps, optimizer.warmup_steps) == (1024, 200_000, 2500)
    assert (
        optimizer.learning_rate,
        optimizer.weight_decay,
        optimizer.betas,
        optimizer.epsilon,
    ) == (rate, 0.01, (0.9, 0.98), 1e-8)
    assert (optimizer.schedule, optimizer.power, optimizer.end_learning_rate) == (
        "polynomial",
        1.0,
        0.0,
    )
    assert (data.mask_rate, data.crop_scale, tuple(data.randaugment), data.flip) == (
        0.15,
        (0.5, 1.0),
        (2, 7),
        True,
    )


def test_batches_of_the_input_fit_the_recipe():
    config = parse("batch_size=4")
    recipe = Recipe(config)
    recipe.open()
    with recipe.batches(0) as batches:
        batch = next(batches)
    assert_fits(batch, recipe)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("batch_size=100",),
            (
                "config.batch_size=100 does not divide over the batch shards, mesh data x fsdp .8.;"
                " use a multiple of 8 such as 96"
            ),
        ),
        (
            ("batch_size=72", "accumulation=2"),
            (
                "config.batch_size=72 does not divide over batch shards x config.accumulation .16.;"
                " use a multiple of 16"
            ),
        ),
        (("batch_size=0",), "config.batch_size=0 must be more than 0"),
        (
            ("batch_size=96", "task.contrast_chunk=8"),
            (
                "config.task.contrast_chunk=8 does not divide the 12 rows that each of the 8 batch"
                " shards has of config.batch_size=96; use a divisor such as 4 or 12, or 0"
            ),
        ),
        (
            ("batch_size=96", "task.negative_groups=96"),
            "config.task.negative_groups=96 does not cut config.batch_size=96 into equal parts of",
        ),
        (
            ("batch_size=96", "task.negative_groups=12"),
            "config.task.negative_groups=12 is neither a divisor nor a multiple of the batch",
        ),
        (
            ("batch_size=1", "mesh.data=1", "mesh.tensor=8", "model.num_heads=8"),
            "config.batch_size=1 leaves no negatives; use at least 2",
        ),
        (
            ("mesh.data=3",),
            (
                "config.mesh.data=3, config.mesh.fsdp=1, config.mesh.tensor=1 does not cover the 8"
                " devices of this job; the product must be 8"
            ),
        ),
        (("mesh.fsdp=-1",), "at most one is -1"),
        (
            ("mesh.tensor=8",),
            (
                "config.model.num_heads=4 does not divide over config.mesh.tensor .8.; use a"
                " multiple of 8 such as 8"
            ),
        ),
        (
            ("mesh.fsdp=8", "model.width=100"),
            "config.model.width=100 does not divide over config.mesh.fsdp .8.; use a multiple of 8",
        ),
        (
            ("model.image_size=60",),
            (
                "config.model.image_size=60 does not divide over config.model.patch_size .16.; use"
                " a multiple of 16 such as 64"
            ),
        ),
        (
            ("model.width=130",),
            "config.model.width=130 does not divide over config.model.num_heads",
        ),
        (("model.num_heads=0",), "config.model.num_heads=0 must be more than 0"),
        (("model.patch_size=0",), "config.model.patch_size=0 must be more than 0"),
        (
            ("model.text_length=17", "model.text_positions=16"),
            (
                "config.model.text_length=17 is more than config.model.text_positions=16; raise"
                " text_positions"
            ),
        ),
        (
            ("model.text_length=2",),
            "config.model.text_length=2 has no room for .CLS., a token and .SEP.; use at least 3",
        ),
        (
            ("model.num_upper=0",),
            "config.model.num_upper=0 must be at least 1 and less than config.model.depth",
        ),
        (
            ("model.num_upper=4", "model.depth=4"),
            "config.model.num_upper=4 must be at least 1 and less than config.model.depth=4",
        ),
        (
            ("model.position=learned",),
            "config.model.position='learned' is not allowed; use one of relative, absolute",
        ),
        (
            ("model.remat=full",),
            "config.model.remat='full' is not allowed; use one of none, block, dots",
        ),
        (
            ("model.dtype=float16",),
            "config.model.dtype='float16' is not allowed; use one of auto, float32, bfloat16",
        ),
        (("model.drop_path_rate=1.0",), "config.model.drop_path_rate=1.0 must be in .0, 1."),
        (
            ("optimizer.schedule=linear",),
            (
                "config.optimizer.schedule='linear' is not allowed; use one of polynomial, cosine,"
                " constant"
            ),
        ),
        (
            ("steps=40", "optimizer.warmup_steps=40"),
            "config.optimizer.warmup_steps=40 must be at least 0 and less than config.steps=40",
        ),
        (("optimizer.warmup_steps=-1",), "config.optimizer.warmup_steps=-1 must be at least 0"),
        (
            ("optimizer.learning_rate=0.0",),
            "config.optimizer.learning_rate=0.0 must be more than 0",
        ),
        (
            ("optimizer.betas=(0.9,1.0)",),
            "config.optimizer.betas=.0.9, 1.0. must be two numbers in .0, 1.",
        ),
        (("optimizer.clip_norm=-1.0",), "config.optimizer.clip_norm=-1.0 must be 0 .off. or more"),
        (("checkpoint.keep_last=0",), "config.checkpoint.keep_last=0 must be more than 0"),
        (
            ("checkpoint.every_minutes=0.0",),
            "config.checkpoint.every_minutes=0.0 must be more than 0",
        ),
        (
            ("evals.retrieval.every_steps=0",),
            "config.evals.retrieval.every_steps=0 must be more than 0",
        ),
        (
            ("evals.retrieval.batch_size=12",),
            "config.evals.retrieval.batch_size=12 does not divide over the batch shards",
        ),
        (("evals.retrieval.rerank_top_k=-1",), "config.evals.retrieval.rerank_top_k=-1 must be 0"),
        (("data.mask_rate=1.5",), "config.data.mask_rate=1.5 must be in .0, 1."),
        (
            ("data.max_masked_tokens=15", "model.text_length=16"),
            "config.data.max_masked_tokens=15 must be in 1 .. text_length - 2 = 14",
        ),
        (
            ("data.captions=all",),
            "config.data.captions='all' is unknown; use one of 'text', 'text_and_keywords'",
        ),
        (
            ("data.crop_scale=(0.0,1.0)",),
            "config.data.crop_scale=.0.0, 1.0. must be .smallest, largest. share of the area",
        ),
        (("data.num_threads=0",), "config.data.num_threads=0 must be at least 1"),
        (("data.std=(0.5,0.5,0.0)",), "config.data.std=.0.5, 0.5, 0.0. must be more than 0"),
        (("data.mean=(0.5,)",), "config.data.mean=.0.5,. must be three numbers"),
        (("seed=-1",), "config.seed=-1 must be 0 or more"),
        (("mode=test",), "config.mode='test' is not allowed; use one of train, eval"),
        (
            ("model.vocab_size=3000",),
            (
                "config.tokenizer=emoji has 4000 tokens, more than config.model.vocab_size=3000;"
                " set --config.model.vocab_size=4000"
            ),
        ),
        (
            ("tokenizer=nowhere/t.model",),
            "config.tokenizer='nowhere/t.model': .* there is no such file",
        ),
        (
            ("tokenizer=t.json",),
            "config.tokenizer='t.json': .* is not a tokenizer file: give a SentencePiece .model",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check(*arguments)


def test_recipes_of_the_paper_ask_for_data_and_tokenizer():
    with pytest.raises(
        ConfigError,
        match="config.data.source is not set; give --config.data.source=DIR, a folder made by",
    ):
        check(recipe_name="base")
    with pytest.raises(
        ConfigError, match="config.data.source is not set"
    ):  # a source of the evaluation is none to train on
        check("evals.retrieval.source=emoji", recipe_name="base")
    with pytest.raises(
        ConfigError, match="config.tokenizer is not set; give --config.tokenizer=FILE"
    ):
        check("data.source=emoji", recipe_name="base")
    check("evals.retrieval.source=emoji", "mode=eval", "tokenizer=emoji", recipe_name="base")


def test_a_tokenizer_whose_pad_is_not_token_0_is_refused(tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["word", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    with pytest.raises(ConfigError, match=r"vocab.txt has \[PAD\] at 1; it must be token 0"):
        check(f"tokenizer={vocabulary}")


def test_the_default_settings_pass_on_any_number_of_devices():
    for devices in (1, 2, 8):
        check(devices=devices)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("batchsize=3", "config.batchsize=3: .*Did you mean .*batch_size"),
        ("model.dept=3", "depth"),
        ("steps=3.5", "config.steps=3.5"),
        ("steps=many", "config.steps=many"),
        ("optimizer.learning_rate=fast", "config.optimizer.learning_rate=fast"),
    ],
)
def test_unknown_fields_and_wrong_types_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        parse(argument)
