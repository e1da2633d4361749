"""Whether an index is sound: its files are those that were written, rows go together, and each
picture is found by itself.
"""

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from vlmo_jax.inference.model import Model
from vlmo_jax.search.about import DamagedIndexError, remake
from vlmo_jax.search.engines import Engine
from vlmo_jax.search.index import GENERATIONS, VECTORS, ChangedPictureError, Index, pack_path

_SAMPLE = 1000  # pictures that are looked at one by one
_ENCODED = 16  # pictures that are encoded again
_ROWS = 1 << 14  # at a time
_LENGTH = 2e-3  # of a vector, that float16 may change
_SAME = {"float32": 1e-4, "float16": 2e-3}  # in a cosine, also of another machine


def check_index(index: Index, model: Model, engine: Engine) -> Iterator[str]:
    """Looks at an index, and yields a line about each thing that is well.

    Args:
        index: that is open.
        model: of it.
        engine: of its vectors.

    Raises:
        DamagedIndexError: something is not well.
    """
    yield f"{len(index):,} vectors, pictures and rows"
    path = index.folder / GENERATIONS / index.about.generation / VECTORS
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != index.about.vectors_sha256:
            raise _damaged(index, f"{path} is not what was written")
    yield "the vectors are those that were written"
    for begin in range(0, len(index), _ROWS):
        lengths = np.linalg.norm(
            np.asarray(index.vectors[begin : begin + _ROWS], np.float32), axis=1
        )
        wrong = np.flatnonzero(~(abs(lengths - 1) < _LENGTH))
        if wrong.size:
            raise _damaged(index, f"the vector of row {begin + wrong[0]} has not the length 1")
    yield "each has the length 1"
    sample = np.unique(np.linspace(0, len(index) - 1, min(len(index), _SAMPLE)).astype(int))
    _find_themselves(index, engine, sample)
    yield f"{len(sample):,} of them find themselves"
    yield f"{_look_at_thumbnails(index, sample):,} small pictures can be seen"
    count = _encode_again(index, model, sample)
    yield f"{count} pictures have the vectors that the model gives them"


def _find_themselves(index: Index, engine: Engine, sample: np.ndarray) -> None:
    for begin in range(0, len(sample), 64):
        rows = sample[begin : begin + 64]
        vectors = np.asarray(index.vectors[rows], np.float32)
        found = engine.top_k(vectors, 1, None)
        best = np.asarray(index.vectors[np.asarray(found.rows)[:, 0]], np.float32)
        own = (vectors * vectors).sum(axis=1)
        # One of the same vector may come first.
        off = np.flatnonzero((vectors * best).sum(axis=1) < own - _SAME[index.about.dtype])
        if off.size:
            raise _damaged(index, f"row {rows[off[0]]} does not find itself")


def _look_at_thumbnails(index: Index, sample: np.ndarray) -> int:
    table = index.pictures.table("SELECT pack, max(begin + length) FROM pictures GROUP BY pack")
    for number, end in table:
        if pack_path(index.folder, number).stat().st_size < end:
            raise _damaged(index, f"{pack_path(index.folder, number)} was cut")
    for picture in index.pictures.at(sample):
        try:
            Image.open(io.BytesIO(index.thumbnail(picture.id)), formats=["JPEG"]).load()
        except (OSError, ValueError) as error:
            raise _damaged(index, f"the small picture of {picture.path!r} is damaged") from error
    return len(sample)


def _encode_again(index: Index, model: Model, sample: np.ndarray) -> int:
    """How many pictures were encoded again, of those whose files are as they were."""
    files: list[Any] = []
    rows = []
    for row in sample[:: max(1, len(sample) // _ENCODED)][:_ENCODED]:
        try:
            files.append(index.original(index.pictures[int(row)].id))
            rows.append(row)
        except ChangedPictureError:
            continue
    if not files:
        return 0
    cosines = (model.encode_image(files) * index.vectors[rows]).sum(axis=1)
    off = np.flatnonzero(~(cosines > 1 - _SAME[index.about.dtype]))
    if off.size:
        raise _damaged(
            index, f"the vector of row {rows[off[0]]} is not that of its picture {files[off[0]]}"
        )
    return len(files)


def _damaged(index: Index, what: str) -> DamagedIndexError:
    return DamagedIndexError(f"{index.folder}: {what}; {remake(index.folder)}")
