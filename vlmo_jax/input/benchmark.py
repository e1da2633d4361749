"""Speed of the input pipeline alone: `python -m vlmo_jax.input.benchmark`."""

import argparse
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.datasets import Record, open_source
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import DEFAULT_LOADING, Loading, stream_batches
from vlmo_jax.input.speed import Speed, format_speed, measure_speed
from vlmo_jax.input.text.tokenizer import Tokenizer, load_tokenizer

PHOTOS = "photos"
_CAPTION = "two children in red coats walk a small brown dog along the river {} on a windy day"


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
    for _ in range(min(distinct, count)):
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


def benchmark_pairs(
    source: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    image_size: int,
    text_length: int,
    batch_size: int = 128,
    loading: Loading = DEFAULT_LOADING,
    seconds: float = 1.0,
) -> Speed:
    """Measures how fast image-text pairs become training examples.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        image_size, text_length: as in `PairRows`; RandAugment (2, 7) and crops of 0.5 to 1.
        batch_size: examples of a batch, which is cut to the number of records.
        loading: of the pipeline.
        seconds: as in `measure_speed`.

    Returns:
        The speed.
    """
    rows = PairRows(image_size, text_length, max_masked_tokens=text_length - 2)
    maker = PairExamples(source, tokenizer, rows, seed=0, captions="text_and_keywords")
    batches = stream_batches(
        maker,
        batch_size=min(batch_size, len(source)),
        start_step=0,
        end_step=10**9,
        loading=loading,
    )
    return measure_speed(batches, seconds=seconds)


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
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="for the pipeline, and for one thread"
    )
    flags = parser.parse_args()
    tokenizer = load_tokenizer(flags.tokenizer)
    for name in flags.source:
        image_size = flags.image_size or (64 if name == "emoji" else 224)
        source = synthetic_photos() if name == PHOTOS else open_source(name, flags.split)
        speed = benchmark_pairs(
            source,
            tokenizer,
            image_size=image_size,
            text_length=flags.text_length,
            batch_size=flags.batch_size,
            loading=Loading(num_workers=flags.num_workers, num_threads=flags.num_threads),
            seconds=flags.seconds,
        )
        size = np.mean([len(source[i].image) for i in range(min(len(source), 256))]) / 1024
        title = (
            f"{name}: {size:.1f} kB a file, to {image_size} px and {flags.text_length} tokens;"
            f" pipeline of {flags.num_threads} threads in {flags.num_workers or 'no'} workers"
        )
        lines = (f"  {label:<26}{text}" for label, text in format_speed(speed))
        print("\n".join((title, *lines)), flush=True)


if __name__ == "__main__":
    main()
