"""Folders of pictures, a model that costs nothing, and what is in an index, for tests."""

import hashlib
import io
import os
import pathlib
import types

import numpy as np
from PIL import Image

from vlmo_jax.input.plain_images import ImageRows
from vlmo_jax.search.building.update import update_index
from vlmo_jax.search.index import open_index


class StubModel:
    """Vectors of pictures are their smallest copies, those of texts come from a digest."""

    image_size, text_length, tokenizer = 8, 6, None
    name = pathlib.Path("/models/stub/checkpoints/3")
    image_form = ImageRows(8)
    preprocessing = {"image_size": 8, "resize": "square bicubic"}
    fingerprint = "ab" * 32
    config = types.SimpleNamespace()

    def __init__(self, **changes):
        vars(self).update(changes)
        self.looked_at = 0

    def encode_image(self, images, *, on_error="raise"):
        self.looked_at += len(images)
        rows = [np.asarray(one, np.float32)[::2, ::2].reshape(-1) + 1 for one in images]
        return _unit(np.stack(rows)) if rows else np.zeros((0, 48), np.float32)

    def encode_text(self, texts):
        seeds = [hashlib.sha256(text.encode()).digest() for text in texts]
        rows = [np.resize(np.frombuffer(seed, np.uint8), 48).astype(np.float32) for seed in seeds]
        return _unit(np.stack(rows)) if rows else np.zeros((0, 48), np.float32)

    def preprocess(self, images):
        return np.stack([_square(image) for image in images])

    def match(self, images, texts):
        """The share of red in a picture, whatever the text."""
        return np.array([_square(image)[..., 0].mean() / 255 for image in images], np.float32)


def _square(image):
    if isinstance(image, np.ndarray):
        return image
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        return np.asarray(opened.convert("RGB").resize((8, 8)))


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class StubEngine:
    """The exact search in a few lines."""

    def __init__(self, vectors):
        self._vectors = np.asarray(vectors, np.float32)

    def top_k(self, queries, k, allowed=None):
        scores = queries @ self._vectors.T
        if allowed is not None:
            scores = np.where(allowed[None], scores, -np.inf)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(scores, rows, axis=1)
        found = types.SimpleNamespace(scores=best, rows=np.where(best > -np.inf, rows, -1))
        return found


def draw(path, seed, *, size=(12, 10), **options):
    """Writes a picture of some colours and returns its path."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.NEAREST).save(path, **options)
    return path


def age(path, seconds=100):
    """Makes a file so old that its size and time are trusted."""
    found = os.stat(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 1e9)))


def update(pictures, folder, model=None, **options):
    """Makes or renews an index."""
    model = model or StubModel()
    return update_index(
        pathlib.Path(pictures), pathlib.Path(folder), model, "/models/stub", **options
    )


def contents(folder):
    """All that an index says of its pictures, by path."""
    with open_index(folder) as index:
        return contents_of(index)


def contents_of(index):
    """The same of an index that is open."""
    return {
        picture.path: (
            picture,
            index.vectors[row].tobytes(),
            index.thumbnail(picture.id),
            index.pictures.row_of(picture.id) == row,
        )
        for row, picture in enumerate(index.pictures)
    }
