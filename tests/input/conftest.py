"""Small records and a real tokenizer."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import Record
from vlmo_jax.input.text.tokenizer import load_tokenizer

TEXTS = (
    "red apple",
    "a hatching chick in the grass",
    "person walking facing right",
    "cloud with lightning and rain",
    "smiling cat face",
)


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer("emoji")


@pytest.fixture
def encode():
    """A function from a Pillow image to the bytes of a file."""

    def encode(image, file_format="PNG", **options):
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def make_records(encode):
    """A function that gives `count` records, each with an image of its own; those numbered in
    `broken` have a damaged file.
    """

    def make_records(count, broken=()):
        rng = np.random.default_rng(0)
        records = []
        for i in range(count):
            image = encode(Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)))
            records.append(
                Record(
                    image=image[: len(image) // 2] if i in broken else image,
                    texts=(f"{TEXTS[i % len(TEXTS)]} number {i}",),
                    keywords=("bird", "sky", "blue"),
                    image_id=f"record {i}",
                )
            )
        return records

    return make_records


@pytest.fixture
def make_plain_records(encode):
    """As `make_records`, with an image of one colour that tells the number of the record, below
    50, in every view whose colours are not changed.
    """

    def make_plain_records(count, broken=()):
        records = []
        for i in range(count):
            image = encode(Image.new("RGB", (12, 16), (5 * i, 0, 0)))
            image = image[: len(image) // 2] if i in broken else image
            records.append(Record(image, (f"number {i}",), (), f"record {i}"))
        return records

    return make_plain_records


@pytest.fixture
def numbers_shown():
    """A function from images uint8 [B, S, S, 3] to the numbers of the `make_plain_records`."""

    def numbers_shown(images):
        assert (images == images[:, :1, :1]).all() and not images[..., 1:].any()
        return (images[:, 0, 0, 0] // 5).tolist()

    return numbers_shown


@pytest.fixture
def number_of():
    """A function from the image_id of a batch to the number of the record in `make_records`."""
    numbers = {zlib.crc32(f"record {i}".encode()): i for i in range(1000)}
    return lambda image_ids: [numbers[int(value)] for value in image_ids]
