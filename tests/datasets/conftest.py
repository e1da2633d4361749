"""Small images, records and data sets."""

import io

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.datasets import records, writer


@pytest.fixture(scope="session")
def encoded_image():
    """Returns a function (seed, format, size) -> bytes of an image file of noise."""

    def encode(seed: int = 0, image_format: str = "PNG", size: tuple[int, int] = (12, 8)) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, image_format)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def some_records(encoded_image):
    """Ten records with captions and keywords that try the encoding."""
    return [
        records.Record(
            encoded_image(i),
            (f"caption {i}", "naïve café 😀")[: 1 + i % 2],
            ("one", "two")[: i % 3],
            f"folder/{i}.png",
        )
        for i in range(10)
    ]


@pytest.fixture
def dataset(tmp_path, some_records):
    """A data set of two splits: train of 8 records in several shards, validation of 2 in one."""
    with writer.DatasetWriter(tmp_path / "data", description="for tests", shard_bytes=1000) as out:
        for i, record in enumerate(some_records):
            out.write("train" if i < 8 else "validation", record)
    return tmp_path / "data"
