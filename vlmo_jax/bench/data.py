"""Speed of the input pipeline alone, with a recipe's sizes."""

import platform

from ml_collections import ConfigDict

from vlmo_jax.bench.report import Report
from vlmo_jax.datasets import open_source
from vlmo_jax.input.benchmark import benchmark_input, synthetic_photos
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.text.tokenizer import load_tokenizer

LARGEST_BATCH = 128  # a batch of 1024 photographs takes half a minute on two cores


def benchmark_data(config: ConfigDict, *, seconds: float) -> Report:
    """Measures reading, decoding, augmenting and tokenizing; see `vlmo_jax.input.benchmark`.

    Args:
        config: ConfigDict of a recipe. Without a data set it reads 640x480 JPEGs made for the
            purpose, without a tokenizer it uses that of the embedded data.
        seconds: how long to measure each stage, roughly.

    Returns:
        Report.
    """
    data = config.data
    source = open_source(data.source, data.split) if data.source else synthetic_photos()
    sizes = dict(
        image_size=config.model.image_size,
        text_length=config.model.text_length,
        batch_size=min(config.batch_size, LARGEST_BATCH),
    )
    loading = Loading(num_workers=data.num_workers, num_threads=data.num_threads)
    stages = benchmark_input(
        source,
        load_tokenizer(config.tokenizer or "emoji"),
        loading=loading,
        seconds=seconds,
        **sizes,
    )
    rows = [
        (
            stage.name,
            f"{stage.milliseconds:8.3f} ms a record  {stage.records_per_second:8.0f} records/s",
        )
        for stage in stages
    ]
    record = {
        "benchmark": "input",
        "source": data.source or "640x480 JPEGs",
        **sizes,
        "num_workers": loading.num_workers,
        "num_threads": loading.num_threads,
        "python": platform.python_version(),
        "records_per_second": {stage.name: stage.records_per_second for stage in stages},
    }
    what = data.source or "640x480 JPEGs"
    return Report(
        f"input of {what} to {sizes['image_size']} px and {sizes['text_length']} tokens: single"
        f" stages of one core, pipeline of {loading.num_threads} threads in"
        f" {loading.num_workers or 'no'} workers",
        rows,
        record,
    )
