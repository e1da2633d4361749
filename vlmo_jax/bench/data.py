"""Speed of a recipe's input pipeline alone."""

import contextlib
import pathlib
import platform
import tempfile
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.bench.report import Report
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.writer import DatasetWriter
from vlmo_jax.input.benchmark import synthetic_photos
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.speed import Speed, format_speed, measure_speed
from vlmo_jax.recipes import Recipe

LARGEST_BATCH = 128  # a batch of 1024 photographs takes half a minute on two cores
_PHOTOGRAPHS = 512
_PHOTOGRAPHED = ("pairs", "images", "masked_images")  # of recipes.data.DATA
PHOTOS = "640x480 JPEGs"
_TEXTS = "glosses"  # embedded


def benchmark_data(config: ConfigDict, *, seconds: float) -> Report:
    """Measures how fast a recipe's training batches are made; see `input.speed`.

    Args:
        config: ConfigDict of a recipe, of any stage. Without a data set it reads 640x480 JPEGs made
            for the purpose or, for texts alone, the embedded ones; without a tokenizer it uses that
            of the embedded data.
        seconds: how long to measure the pipeline, and one thread, roughly.

    Returns:
        Report.

    Raises:
        ConfigError: the recipe needs a data set that it is not given.
    """
    with opened(config) as recipe:
        speed = measure_speed(open_batches(recipe), seconds=seconds)
    return report_speed(recipe.config, config.data.source or PHOTOS, speed)


def report_speed(config: ConfigDict, what: str, speed: Speed) -> Report:
    """The report on the pipeline of a config that reads `what`."""
    data, rate = config.data, speed.rate
    record = {
        "benchmark": "input",
        "source": what,
        **sizes(config),
        "num_workers": data.num_workers,
        "num_threads": data.num_threads,
        "python": platform.python_version(),
        "records_per_second": {
            "all, one thread": 1e3 / speed.alone,
            "all, pipeline": rate.records_per_second,
            "all, pipeline, a core": rate.records_per_second_a_core,
        },
        "milliseconds_a_record": {**speed.parts, "taken over": rate.taking},
    }
    of = ", ".join(f"{name} {value}" for name, value in sizes(config).items())
    title = (
        f"input of {what}, {of}: processor time, and a pipeline of"
        f" {data.num_threads} threads in {data.num_workers or 'no'} workers"
    )
    return Report(title, format_speed(speed), record)


def sizes(config: ConfigDict) -> dict[str, Any]:
    """Those of a recipe that the work on a record depends on."""
    model = config.model
    named = {name: model[name] for name in ("image_size", "text_length") if name in model}
    return {**named, "batch_size": config.batch_size}


@contextlib.contextmanager
def opened(config: ConfigDict) -> Iterator[Recipe]:
    """Inside, the recipe of a config is there with its data open, made ones where it has none.

    Raises:
        ConfigError: see `benchmark_data`.
    """
    config = config.copy_and_resolve_references()
    config.batch_size = min(config.batch_size, LARGEST_BATCH)
    config.steps = 10**9
    if "tokenizer" in config:
        config.tokenizer = config.tokenizer or "emoji"
        config.model.vocab_size = 2**31 - 1  # no model is made: any tokenizer will do
    with contextlib.ExitStack() as stack:
        if not config.data.source:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            config.data.source = _made_source(config.data.kind, pathlib.Path(folder))
        recipe = Recipe(config)
        recipe.data.check_inputs()
        recipe.data.check()
        recipe.data.open(training=True)
        yield recipe


def open_batches(recipe: Recipe) -> TrainBatches:
    """The training batches of a recipe whose data are open."""
    batches = recipe.data.batches(0)
    assert isinstance(batches, TrainBatches)  # of every kind of data
    return batches


def _made_source(kind: str, folder: pathlib.Path) -> str:
    if kind == "texts":
        return _TEXTS
    if kind not in _PHOTOGRAPHED:
        raise ConfigError(
            f"config.data.source is not set, and `bench input` makes no records of"
            f" config.data.kind={kind!r}; give it a data set with --config.data.source=DIR"
        )
    with DatasetWriter(folder / "photos", description="Noise as in photographs.") as writer:
        for record in synthetic_photos(_PHOTOGRAPHS):
            writer.write("train", record)
    return str(folder / "photos")
