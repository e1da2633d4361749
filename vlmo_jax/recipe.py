"""From a config to the objects of a run, with every check that can be made before anything compiles."""

import contextlib
import functools
import math

import jax
import jax.numpy as jnp

from vlmo_jax import sharding
from vlmo_jax.input import checks
from vlmo_jax.input.tokenizer import load_tokenizer
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.optimizer import SCHEDULES, make_optimizer
from vlmo_jax.tasks.pretrain import PretrainTask

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class ConfigError(ValueError):
    """A config that cannot run; the message names the key, the value, what is allowed and the fix."""


def _require(condition, message):
    if not condition:
        raise ConfigError(message)


def _one_of(key, value, allowed):
    _require(value in allowed, f"config.{key}={value!r} is not allowed; use one of {', '.join(map(str, allowed))}")


def _multiple(key, value, divisor, what):
    if value % divisor:
        near = max(divisor, round(value / divisor) * divisor)
        raise ConfigError(f"config.{key}={value} does not divide over {what} ({divisor}); use a multiple of {divisor} such as {near}")


def _field(config, key):
    return functools.reduce(lambda part, name: part[name], key.split("."), config)


def _positive(config, keys):
    for key in keys:
        _require(_field(config, key) > 0, f"config.{key}={_field(config, key)} must be more than 0")


@contextlib.contextmanager
def naming(config, *keys):
    """Names the fields of a config that lead to a FileNotFoundError or ValueError inside: a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except (FileNotFoundError, ValueError) as error:
        values = ", ".join(f"config.{key}={_field(config, key)!r}" for key in keys)
        raise ConfigError(f"{values}: {error}") from error


def check_config(config, num_devices):
    """Refuses impossible configs.

    Args:
      config: ConfigDict of a recipe.
      num_devices: devices of the whole job.

    Raises:
      ConfigError: at the first impossible value or combination.
    """
    _one_of("mode", config.mode, ("train", "eval"))
    _positive(config, ("batch_size", "steps", "accumulation", "log_every", "evals.retrieval.batch_size", "evals.retrieval.every_steps"))
    _require(config.seed >= 0, f"config.seed={config.seed} must be 0 or more")
    top_k = config.evals.retrieval.rerank_top_k
    _require(top_k >= 0, f"config.evals.retrieval.rerank_top_k={top_k} must be 0 (no re-ranking) or more")
    _check_model(config.model)
    try:
        data, fsdp, tensor = sharding.mesh_shape(config.mesh, num_devices)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _multiple("model.num_heads", config.model.num_heads, tensor, "config.mesh.tensor")
    _multiple("model.mlp_dim", config.model.mlp_dim, tensor, "config.mesh.tensor")
    _multiple("model.vocab_size", config.model.vocab_size, tensor, "config.mesh.tensor")
    _multiple("model.width", config.model.width, fsdp, "config.mesh.fsdp")
    shards = data * fsdp
    _multiple("evals.retrieval.batch_size", config.evals.retrieval.batch_size, shards, "the batch shards, mesh data x fsdp")
    if config.mode == "train":
        _multiple("batch_size", config.batch_size, shards, "the batch shards, mesh data x fsdp")
        _multiple("batch_size", config.batch_size, shards * config.accumulation, "batch shards x config.accumulation")
        _require(config.batch_size >= 2, f"config.batch_size={config.batch_size} leaves no negatives; use at least 2")
        _check_training(config)
    _require(
        config.data.source or config.mode == "eval" and config.evals.retrieval.source,
        "config.data.source is not set; give --config.data.source=DIR, a folder made by "
        "`python -m vlmo_jax.datasets.build`, or --config.data.source=emoji for the embedded drawings",
    )
    _require(
        config.tokenizer,
        "config.tokenizer is not set; give --config.tokenizer=FILE, a SentencePiece .model made by "
        "`python -m vlmo_jax.input.train_tokenizer` or a BERT vocab.txt",
    )


def _check_model(model):
    names = ("image_size", "patch_size", "width", "num_heads", "mlp_dim", "vocab_size", "init_std")
    _positive({"model": model}, [f"model.{name}" for name in names])
    _multiple("model.image_size", model.image_size, model.patch_size, "config.model.patch_size")
    _multiple("model.width", model.width, model.num_heads, "config.model.num_heads")
    _one_of("model.position", model.position, ("relative", "absolute"))
    _one_of("model.remat", model.remat, tuple(REMAT_POLICIES))
    _one_of("model.dtype", model.dtype, ("auto", *DTYPES))
    _require(model.text_length >= 3, f"config.model.text_length={model.text_length} has no room for [CLS], a token and [SEP]; use at least 3")
    _require(
        model.text_length <= model.text_positions,
        f"config.model.text_length={model.text_length} is more than config.model.text_positions={model.text_positions}; "
        "raise text_positions or shorten the texts",
    )
    _require(
        1 <= model.num_upper < model.depth,
        f"config.model.num_upper={model.num_upper} must be at least 1 and less than config.model.depth={model.depth}",
    )
    _require(model.layer_scale >= 0, f"config.model.layer_scale={model.layer_scale} must be 0 (none) or more")
    _require(0 <= model.drop_path_rate < 1, f"config.model.drop_path_rate={model.drop_path_rate} must be in [0, 1)")


def _check_training(config):
    optimizer, data = config.optimizer, config.data
    _one_of("optimizer.schedule", optimizer.schedule, SCHEDULES)
    _require(
        0 <= optimizer.warmup_steps < config.steps,
        f"config.optimizer.warmup_steps={optimizer.warmup_steps} must be at least 0 and less than config.steps={config.steps}",
    )
    _positive(config, ("optimizer.learning_rate", "optimizer.epsilon", "optimizer.power", "checkpoint.every_steps",
                       "checkpoint.every_minutes", "checkpoint.keep_last"))  # fmt: skip
    betas = tuple(optimizer.betas)
    _require(len(betas) == 2 and all(0 <= b < 1 for b in betas), f"config.optimizer.betas={betas} must be two numbers in [0, 1)")
    _require(optimizer.clip_norm >= 0, f"config.optimizer.clip_norm={optimizer.clip_norm} must be 0 (off) or more")
    _require(0 < data.mask_rate < 1, f"config.data.mask_rate={data.mask_rate} must be in (0, 1)")
    _require(
        1 <= data.max_masked_tokens <= config.model.text_length - 2,
        f"config.data.max_masked_tokens={data.max_masked_tokens} must be in 1 .. text_length - 2 = {config.model.text_length - 2}",
    )
    for key in ("mean", "std"):
        _require(len(data[key]) == 3, f"config.data.{key}={tuple(data[key])} must be three numbers, one a channel")
    _require(min(data.std) > 0, f"config.data.std={tuple(data.std)} must be more than 0")
    _require(len(data.crop_scale) == 2, f"config.data.crop_scale={tuple(data.crop_scale)} must be two numbers, smallest and largest")
    _require(len(data.randaugment) in (0, 2), f"config.data.randaugment={tuple(data.randaugment)} must be (operations, magnitude) or ()")
    try:
        checks.check_captions(data.captions)
        checks.check_views(tuple(data.crop_scale), tuple(data.randaugment) or None, tuple(data.color_jitter) or None)
        checks.check_masking(data.mask_rate, data.max_masked_tokens)
        checks.check_stream(0, config.steps, data.max_broken_fraction)
        checks.check_loading(data.num_workers, data.num_threads, data.prefetch)
    except ValueError as error:
        raise ConfigError(f"config.data.{str(error).removeprefix('config.data.')}") from error
    hosts = jax.process_count()
    _multiple("batch_size", config.batch_size, hosts, "the processes of this job")


def check_tokenizer(config):
    """Loads the tokenizer of a config and checks that the model's vocabulary holds all of its ids.

    Raises:
      ConfigError: the vocabulary is too small, or [PAD] is not token 0.
    """
    with naming(config, "tokenizer"):
        tokenizer = load_tokenizer(config.tokenizer)
    _require(
        tokenizer.vocab_size <= config.model.vocab_size,
        f"config.tokenizer={config.tokenizer} has {tokenizer.vocab_size} tokens, more than config.model.vocab_size="
        f"{config.model.vocab_size}; set --config.model.vocab_size={tokenizer.vocab_size}",
    )
    _require(tokenizer.pad_id == 0, f"config.tokenizer={config.tokenizer} has [PAD] at {tokenizer.pad_id}; it must be token 0")
    return tokenizer


def compute_dtype(model_config):
    """Name of the type that a model computes in; "auto" is float32 on CPU and bfloat16 elsewhere."""
    if model_config.dtype != "auto":
        return model_config.dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def make_model_function(model_config):
    """The function of nnx.Rngs that builds the model of `config.model`."""
    fields = model_config.to_dict()
    fields["dtype"] = DTYPES[compute_dtype(model_config)]
    fields["layer_scale"] = fields["layer_scale"] or None
    return lambda rngs: VLMo(**fields, rngs=rngs)


def make_task(config):
    """The task of `config.task`, with the normalisation of `config.data`."""
    return PretrainTask(mean=tuple(config.data.mean), std=tuple(config.data.std), **config.task.to_dict())


def make_recipe_optimizer(config, abstract_params):
    """The optimizer of `config.optimizer` for a pure tree of abstract parameters, and its schedule."""
    return make_optimizer(abstract_params, total_steps=config.steps, **config.optimizer.to_dict())


def abstract_batch(config):
    """Shapes and types of a training batch of this recipe, name -> jax.ShapeDtypeStruct."""
    batch, size = config.batch_size, config.model.image_size
    length, masked = config.model.text_length, config.data.max_masked_tokens
    shapes = {
        "image": ((batch, size, size, 3), jnp.uint8),
        "token_ids": ((batch, length), jnp.int32),
        "token_mask": ((batch, length), jnp.bool_),
        "mlm_token_ids": ((batch, length), jnp.int32),
        "mlm_positions": ((batch, masked), jnp.int32),
        "mlm_labels": ((batch, masked), jnp.int32),
        "image_id": ((batch,), jnp.uint32),
        "text_id": ((batch,), jnp.uint32),
    }
    return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}


def count_params(abstract_params):
    """Number of parameters in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params))


