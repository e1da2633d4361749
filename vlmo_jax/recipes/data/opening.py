"""Opening of data sets and tokenizers, with refusals that name the field they stand in."""

import os
from collections.abc import Callable, Sequence

import jax
from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Extra, Kind, Number, Several, Text, Whole
from vlmo_jax.datasets import open_source
from vlmo_jax.datasets.record_sources import JoinedSource
from vlmo_jax.datasets.sources import split_names
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import ExampleMaker, Loading, TrainBatches, stream_batches
from vlmo_jax.input.sampling import MixedOrder, Order, RecordOrder, count_places
from vlmo_jax.input.text.tokenizer import Tokenizer, load_tokenizer
from vlmo_jax.recipes.visual import image_form_of

# What fields of `config.data` may be: those that all kinds of data have, and those of images.
# Ranges of many stand beside what reads them, in input/.
LOADED: dict[str, Kind] = {
    "kind": Text(),
    "source": Text(optional=True),
    "split": Text(),
    "weights": Extra(
        Several(Number(above=0), what="numbers, one for each data set of source", optional=True)
    ),
    "num_workers": Whole(low=0, high=1024, zero="no processes"),
    "num_threads": Whole(high=1024),
    "prefetch": Whole(high=10_000),
    "max_broken_fraction": Number(low=0, high=1),
}
CROP = Several(Number(), 2, "two numbers, smallest and largest share of the area")
JITTER = Several(
    Number(), 4, "strengths of brightness, contrast, saturation and hue", optional=True
)
AFFINE = Several(
    Number(), 3, "rotation in degrees, zoom and shift as a share of the side", optional=True
)
RANDAUGMENT = Several(Number(), 2, "(operations, magnitude)", optional=True)
COLOUR = Several(Whole(low=0, high=255), 3, "a colour, red, green and blue of 0 to 255")
CHANNELS = Several(Number(), 3, "three numbers, one a channel")

SYNTHETIC = "synthetic"  # stands for a data set, or a tokenizer, that is not read


def check_source(config: ConfigDict, *, build: str, embedded: str) -> None:
    """Refuses a run without data; an evaluation alone may have its own.

    Args:
        config: of a recipe.
        build: the module of vlmo_jax.datasets that makes such data.
        embedded: a data set that comes with the package, in words, for the message.
    """
    own = config.mode == "eval" and all(part.source for part in config.evals.values())
    require(
        bool(config.data.source or own),
        "config.data.source is not set; give --config.data.source=DIR, a folder made by"
        f" `python -m vlmo_jax.datasets.{build}`, or --config.data.source={embedded}",
    )


def check_tokenizer(config: ConfigDict) -> None:
    """Refuses a recipe of texts without a tokenizer."""
    require(
        bool(config.tokenizer),
        "config.tokenizer is not set; give --config.tokenizer=FILE, a SentencePiece .model made by"
        " `python -m vlmo_jax.input.train_tokenizer` or a BERT vocab.txt",
    )


def open_train_source(
    config: ConfigDict, open_split: Callable[[str, str], Sequence] = open_source
) -> Sequence:
    """Opens the training records.

    Raises:
        ConfigError: there is no such data set or split, or it is damaged or of another kind.
    """
    with naming(config, "data.source", "data.split"):
        return open_split(config.data.source, config.data.split)


def open_tokenizer(config: ConfigDict) -> Tokenizer:
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


def record_order(config: ConfigDict, source: Sequence) -> Order:
    """Which training record stands where: each once an epoch, or by `config.data.weights`.

    Raises:
        ConfigError: a data set of a mixture has nothing to train on.
    """
    weights = _weights(config)
    if len(weights) < 2:
        return RecordOrder(len(source), config.seed)
    assert isinstance(source, JoinedSource)  # of as many parts, see `_check_weights`
    with naming(config, "data.weights", "data.source"):
        return MixedOrder([len(part) for part in source.parts], weights, config.seed)


def _weights(config: ConfigDict) -> tuple[float, ...]:
    return tuple(config.data.get("weights") or ())


def _check_weights(config: ConfigDict) -> None:
    """Refuses weights that are not one for each of the data sets that a source joins."""
    weights = _weights(config)
    names = split_names(config.data.source) if weights and config.data.source else []
    require(
        len(names) == len(weights) or not names,
        f"config.data.weights={weights} must be one number for each of the {len(names)} data sets"
        f" of config.data.source={config.data.source!r}, in their order, or () to draw every record"
        " equally often",
    )


def describe_mixture(config: ConfigDict, source: Sequence) -> str:
    """How often each set of a mixture is drawn from and how often it is gone through, in words
    behind those of the records; "" where all records are alike.
    """
    weights = _weights(config)
    if not weights or not isinstance(source, JoinedSource):
        return ""
    places = count_places(weights, config.steps * config.batch_size)
    members = zip(split_names(config.data.source), source.parts, weights, places, strict=True)
    shares = (
        f"{name} {weight / sum(weights):.1%} ({count / max(1, len(part)):,.2f} epochs of its"
        f" {len(part):,} records)"
        for name, part, weight, count in members
    )
    return f"; by config.data.weights {', '.join(shares)}"


def stream(config: ConfigDict, maker: ExampleMaker, start_step: int) -> TrainBatches:
    """The batches of this process, of the examples that `maker` writes."""
    return stream_batches(
        maker,
        batch_size=config.batch_size,
        start_step=start_step,
        end_step=config.steps,
        host=Host(jax.process_index(), jax.process_count()),
        loading=loading(config),
        order=record_order(config, maker.source),
    )


def check_loading(config: ConfigDict) -> None:
    """Refuses impossible numbers of processes, threads, batches and weights."""
    loading(config)
    _check_weights(config)


def loading(config: ConfigDict) -> Loading:
    """How batches are made, by `config.data`: by no more processes than there are cores, since more
    are slower.

    Raises:
        ConfigError: a number is impossible.
    """
    data = config.data
    workers = min(data.num_workers, os.cpu_count() or 1)
    return Loading(workers, data.num_threads, data.prefetch, data.max_broken_fraction)


def image_preprocessing(config: ConfigDict) -> dict:
    """How images become arrays: plain JSON values."""
    data = config.data
    return {
        **image_form_of(config).preprocessing,
        "mean": list(data.mean) if "mean" in data else [0.0] * 3,
        "std": list(data.std) if "std" in data else [1.0] * 3,
    }
