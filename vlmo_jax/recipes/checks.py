"""Refusals of impossible configs, before anything compiles."""

import contextlib
import functools

import jax

from vlmo_jax.commands.config_errors import ConfigError, one_of, require
from vlmo_jax.datasets import open_source
from vlmo_jax.evals.suite import evaluation_splits
from vlmo_jax.input.images import normalisation
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.text.masked_rows import check_text_sizes
from vlmo_jax.input.text.masking import check_mask_rate
from vlmo_jax.input.text.tokenizer import check_text_length, load_tokenizer
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models import vlmo
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes.base import DTYPES
from vlmo_jax.training.optimizer import SCHEDULES

NO_INIT = "none"  # config.init_from of a run that starts from random parameters on purpose


def multiple(key, value, divisor, what):
    """Raises ConfigError unless config.<key> divides by `divisor`, which is named `what`."""
    if value % divisor:
        near = max(divisor, round(value / divisor) * divisor)
        raise ConfigError(
            f"config.{key}={value} does not divide over {what} ({divisor}); use a multiple of"
            f" {divisor} such as {near}"
        )


def _field(config, key):
    return functools.reduce(lambda part, name: part[name], key.split("."), config)


def positive(config, keys):
    """Raises ConfigError unless all these numbers are more than 0."""
    for key in keys:
        require(_field(config, key) > 0, f"config.{key}={_field(config, key)} must be more than 0")


@contextlib.contextmanager
def naming(config, *keys):
    """Names the fields of a config that lead to a FileNotFoundError or ValueError inside: a
    ConfigError.
    """
    try:
        yield
    except ConfigError:
        raise
    except (FileNotFoundError, ValueError) as error:
        values = ", ".join(f"config.{key}={_field(config, key)!r}" for key in keys)
        raise ConfigError(f"{values}: {error}") from error


def check_run(config, num_devices, evaluator):
    """Checks what every recipe has.

    Args:
        config: ConfigDict of a recipe.
        num_devices: devices of the whole job.
        evaluator: the member of config.evals that the recipe uses.
    """
    one_of("mode", config.mode, ("train", "eval"))
    positive(config, ("batch_size", "steps", "accumulation", "log_every"))
    require(config.seed >= 0, f"config.seed={config.seed} must be 0 or more")
    try:
        data, fsdp, _ = sharding.mesh_shape(config.mesh, num_devices)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    shards = data * fsdp
    if config.mode == "train":
        multiple("batch_size", config.batch_size, shards, "the batch shards, mesh data x fsdp")
        multiple(
            "batch_size",
            config.batch_size,
            shards * config.accumulation,
            "batch shards x config.accumulation",
        )
        multiple("batch_size", config.batch_size, jax.process_count(), "the processes of this job")
        _check_optimizer(config)
        data = config.data
        Loading(data.num_workers, data.num_threads, data.prefetch, data.max_broken_fraction)
    sizes = [f"evals.{evaluator}.{name}" for name in ("batch_size", "every_steps")]
    positive(config, sizes)
    multiple(sizes[0], _field(config, sizes[0]), shards, "the batch shards, mesh data x fsdp")


def check_source(config, evaluator, *, build="build", embedded="emoji for the embedded drawings"):
    """Refuses a run without data; an evaluation alone may have its own.

    Args:
        config: ConfigDict of a recipe.
        evaluator: as in `check_run`.
        build: the module of vlmo_jax.datasets that makes such data.
        embedded: a data set that comes with the package, in words, for the message.
    """
    require(
        config.data.source or config.mode == "eval" and config.evals[evaluator].source,
        "config.data.source is not set; give --config.data.source=DIR, a folder made by "
        f"`python -m vlmo_jax.datasets.{build}`, or --config.data.source={embedded}",
    )


def _check_optimizer(config):
    optimizer = config.optimizer
    one_of("optimizer.schedule", optimizer.schedule, SCHEDULES)
    require(
        0 <= optimizer.warmup_steps < config.steps,
        f"config.optimizer.warmup_steps={optimizer.warmup_steps} must be at least 0 and less than"
        f" config.steps={config.steps}",
    )
    positive(
        config,
        (
            "optimizer.learning_rate",
            "optimizer.epsilon",
            "optimizer.power",
            "checkpoint.every_steps",
            "checkpoint.every_minutes",
            "checkpoint.keep_last",
        ),
    )
    betas = tuple(optimizer.betas)
    require(
        len(betas) == 2 and all(0 <= b < 1 for b in betas),
        f"config.optimizer.betas={betas} must be two numbers in [0, 1)",
    )
    require(
        optimizer.clip_norm >= 0,
        f"config.optimizer.clip_norm={optimizer.clip_norm} must be 0 (off) or more",
    )


def check_transformer(config, num_devices):
    """Checks the part of `config.model` that every Transformer has, on the mesh of the config."""
    model = config.model
    positive(
        config,
        [
            f"model.{name}"
            for name in ("image_size", "patch_size", "width", "num_heads", "mlp_dim", "init_std")
        ],
    )
    multiple("model.image_size", model.image_size, model.patch_size, "config.model.patch_size")
    multiple("model.width", model.width, model.num_heads, "config.model.num_heads")
    one_of("model.position", model.position, ("relative", "absolute"))
    one_of("model.remat", model.remat, tuple(REMAT_POLICIES))
    one_of("model.dtype", model.dtype, ("auto", *DTYPES))
    require(
        1 <= model.num_upper < model.depth,
        f"config.model.num_upper={model.num_upper} must be at least 1 and less than"
        f" config.model.depth={model.depth}",
    )
    require(
        model.layer_scale >= 0,
        f"config.model.layer_scale={model.layer_scale} must be 0 (none) or more",
    )
    require(
        0 <= model.drop_path_rate < 1,
        f"config.model.drop_path_rate={model.drop_path_rate} must be in [0, 1)",
    )
    _, fsdp, tensor = sharding.mesh_shape(config.mesh, num_devices)
    multiple("model.num_heads", model.num_heads, tensor, "config.mesh.tensor")
    multiple("model.mlp_dim", model.mlp_dim, tensor, "config.mesh.tensor")
    multiple("model.width", model.width, fsdp, "config.mesh.fsdp")


def check_vocabulary(config, num_devices):
    """Checks that the words or codes of a model divide over the mesh."""
    positive(config, ("model.vocab_size",))
    multiple(
        "model.vocab_size",
        config.model.vocab_size,
        sharding.mesh_shape(config.mesh, num_devices)[2],
        "config.mesh.tensor",
    )


def check_text(config, num_devices):
    """Checks the part of `config.model` that reads text."""
    model = config.model
    check_vocabulary(config, num_devices)
    check_text_length(model.text_length)
    require(
        model.text_length <= model.text_positions,
        f"config.model.text_length={model.text_length} is more than"
        f" config.model.text_positions={model.text_positions}; raise text_positions or shorten the"
        " texts",
    )


def check_parts(config):
    """Checks experts and heads of a VLMo."""
    with naming(config, "model.experts", "model.heads"):
        vlmo.check_parts(config.model.experts, config.model.heads)


def check_masked_language(config):
    """Checks how words are masked in training."""
    check_mask_rate(config.data.mask_rate)
    check_text_sizes(config.model.text_length, config.data.max_masked_tokens)


def check_normalisation(data):
    """Checks `config.data.mean` and `config.data.std`."""
    normalisation.check_normalisation(data.mean, data.std)


def check_init(config, needed):
    """Refuses a run without `config.init_from` that needs one, unless `none` is spelled out.

    Args:
        config: ConfigDict of a recipe.
        needed: what the run starts from, in words.
    """
    require(
        config.init_from or config.mode == "eval",
        f"config.init_from is not set: this recipe starts from {needed}; give"
        f" --config.init_from=DIR, its work folder, or --config.init_from={NO_INIT} to start from"
        " random parameters",
    )


def check_tokenizer(config):
    """Refuses a recipe of texts without a tokenizer."""
    require(
        config.tokenizer,
        "config.tokenizer is not set; give --config.tokenizer=FILE, a SentencePiece .model made by "
        "`python -m vlmo_jax.input.train_tokenizer` or a BERT vocab.txt",
    )


def open_data(config, evaluator, open_split=open_source):
    """Opens the data of a recipe.

    Args:
        config: ConfigDict of a recipe.
        evaluator: as in `check_run`.
        open_split: function of a data set and a split.

    Returns:
        The training records, None in an evaluation alone, and the splits to evaluate, name ->
        records.

    Raises:
        ConfigError: there is no such data set or split, or it is damaged or of another kind.
    """
    source = None
    if config.mode == "train":
        with naming(config, "data.source", "data.split"):
            source = open_split(config.data.source, config.data.split)
    with naming(config, f"evals.{evaluator}.source", f"evals.{evaluator}.splits"):
        return source, evaluation_splits(
            config.evals[evaluator], config.data.source, config.data.split, open_split
        )


def open_tokenizer(config):
    """Loads the tokenizer of a config and checks that the model's vocabulary holds all of its ids.

    Raises:
        ConfigError: the vocabulary is too small, or [PAD] is not token 0.
    """
    with naming(config, "tokenizer"):
        tokenizer = load_tokenizer(config.tokenizer)
    require(
        tokenizer.vocab_size <= config.model.vocab_size,
        f"config.tokenizer={config.tokenizer} has {tokenizer.vocab_size} tokens, more than"
        f" config.model.vocab_size={config.model.vocab_size}; set"
        f" --config.model.vocab_size={tokenizer.vocab_size}",
    )
    require(
        tokenizer.pad_id == 0,
        f"config.tokenizer={config.tokenizer} has [PAD] at {tokenizer.pad_id}; it must be token 0",
    )
    return tokenizer
