"""Speed of the input pipeline alone: `python -m vlmo_jax.input.benchmark`."""

import argparse
import io
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.datasets import Record, open_source
from vlmo_jax.input import sampling
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import DEFAULT_LOADING, Loading, stream_batches
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.input.text.tokenizer import Tokenizer, load_tokenizer

PHOTOS = "photos"
_CAPTION = "two children in red coats walk a small brown dog along the river {} on a windy day"


class Stage(NamedTuple):
    """What one stage of the pipeline costs.

    Attributes:
        name: of the stage.
        milliseconds: for one record: of one core for a stage by itself, on the clock for "all,
            pipeline".
        records_per_second: what one core, or the whole pipeline, gets done.
    """

    name: str
    milliseconds: float
    records_per_second: float


def synthetic_photos(
    count: int = 1024, *, distinct: int = 32, width: int = 640, height: int = 480, quality: int = 90
) -> list[Record]:
    """Makes JPEGs that cost as much to decode as photographs: noise with the 1/f spectrum of
    natural scenes.

    Args:
        count: how many records.
        distinct: how many different images they show, over and over.
        width, height: in pixels.
        quality: of the JPEG.

    Returns:
        Records with a caption of 17 words each, the same on every call.
    """
    rng = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1 / max(width, height)
    files = []
    for _ in range(distinct):
        planes = []
        for contrast in (50, 18, 18):  # brightness, and the two colour differences, which vary less
            noise = np.fft.irfft2(
                np.fft.rfft2(rng.standard_normal((height, width))) / frequency, (height, width)
            )
            planes.append(np.clip(128 + contrast * noise / noise.std(), 0, 255).astype(np.uint8))
        file = io.BytesIO()
        Image.merge("YCbCr", [Image.fromarray(plane) for plane in planes]).save(
            file, "JPEG", quality=quality
        )
        files.append(file.getvalue())
    return [
        Record(files[i % distinct], (_CAPTION.format(i),), (), f"photo {i}") for i in range(count)
    ]


def benchmark_input(
    source: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    image_size: int,
    text_length: int,
    batch_size: int = 128,
    loading: Loading = DEFAULT_LOADING,
    seconds: float = 1.0,
) -> list[Stage]:
    """Measures each stage of making training examples, and the whole.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        image_size, text_length: as in `PairRows`; RandAugment (2, 7) and crops of 0.5 to 1.
        batch_size: examples of a batch, which is cut to the number of records.
        loading: of the pipeline; the single stages run on one thread.
        seconds: how long to measure each stage, roughly.

    Returns:
        One entry a stage. All but the last are processor time of one thread; the last, "all,
        pipeline", is time on the clock.
    """
    batch_size = min(batch_size, len(source))
    rows = PairRows(image_size, text_length, max_masked_tokens=text_length - 2)
    maker = PairExamples(source, tokenizer, rows, seed=0, captions="text_and_keywords")
    records = [source[i] for i in range(min(len(source), 256))]
    decoded = [maker.decode(record) for record in records[:32]]
    batch = empty_batch(maker.columns, 1)
    rng = sampling.example_rng(0, 0)
    stages = [
        _measure("read", lambda i: source[i % len(source)], seconds),
        _measure("decode", lambda i: maker.decode(records[i % len(records)]), seconds),
        _measure(
            "crop, resize",
            lambda i: maker.augmentation.crop(decoded[i % len(decoded)], image_size, rng),
            seconds,
        ),
        _measure(
            "crop, resize, flip, RandAugment",
            lambda i: maker.view(decoded[i % len(decoded)], rng),
            seconds,
        ),
        _measure(
            "caption, tokens, mask",
            lambda i: maker.write_text(batch, 0, records[i % len(records)], rng),
            seconds,
        ),
        _measure("all, one thread", lambda i: maker.write(batch, 0, i, i % len(source)), seconds),
    ]
    with stream_batches(
        maker, batch_size=batch_size, start_step=0, end_step=10**9, loading=loading
    ) as batches:
        next(batches)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds or count < 2:
            next(batches)
            count += 1
        each = (time.perf_counter() - start) / (count * batch_size)
    return [*stages, Stage("all, pipeline", 1e3 * each, 1 / each)]


def _measure(name: str, function: Callable[[int], object], seconds: float) -> Stage:
    function(0)
    start, count = time.thread_time(), 0
    while time.thread_time() - start < seconds or count < 10:
        function(count)
        count += 1
    each = (time.thread_time() - start) / count
    return Stage(name, 1e3 * each, 1 / each)


def format_stages(title: str, stages: Sequence[Stage]) -> str:
    """Returns the stages as a table of a few lines under a title."""
    lines = [f"{title}", f"  {'stage':<34}{'ms a record':>12}{'records/s':>12}"]
    lines += [
        f"  {stage.name:<34}{stage.milliseconds:>12.3f}{stage.records_per_second:>12.0f}"
        for stage in stages
    ]
    return "\n".join(lines)


@told_in_one_line()
def main() -> None:
    """Measures the data sets named on the command line and prints a table for each."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.input.benchmark", description="Speed of the input pipeline alone."
    )
    parser.add_argument(
        "--source",
        nargs="+",
        default=[PHOTOS, "emoji"],
        help=f'"{PHOTOS}" (640x480 JPEGs made for the purpose), "emoji" or a data set folder',
    )
    parser.add_argument("--split", default="train")
    parser.add_argument("--tokenizer", default="emoji")
    parser.add_argument("--image_size", type=int, help="default: 224, and 64 for emoji")
    parser.add_argument("--text_length", type=int, default=40)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each stage")
    flags = parser.parse_args()
    tokenizer = load_tokenizer(flags.tokenizer)
    for name in flags.source:
        image_size = flags.image_size or (64 if name == "emoji" else 224)
        source = synthetic_photos() if name == PHOTOS else open_source(name, flags.split)
        stages = benchmark_input(
            source,
            tokenizer,
            image_size=image_size,
            text_length=flags.text_length,
            batch_size=flags.batch_size,
            loading=Loading(num_workers=flags.num_workers, num_threads=flags.num_threads),
            seconds=flags.seconds,
        )
        size = np.mean([len(source[i].image) for i in range(min(len(source), 256))]) / 1024
        print(
            format_stages(
                f"{name}: {size:.1f} kB a file, to {image_size} px and {flags.text_length} tokens; "
                f"pipeline of {flags.num_threads} threads in {flags.num_workers or 'no'} workers",
                stages,
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
