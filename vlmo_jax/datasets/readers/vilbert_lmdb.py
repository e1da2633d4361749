"""ViLBERT's region features in LMDB, with captions beside them.

Format `vilbert_lmdb`, which needs `pip install vlmo-jax[lmdb]`. As vilbert-multi-task has them:

    SRC/flickr30k.lmdb/data.mdb                 features of a detector, a pickle an image; several
                                                *.lmdb may stand there, as folders or files
    SRC/all_data_final_train_2014.jsonline      captions: {"sentences": ["...", ...], "id": 1} or
    SRC/all_data_final_test_set0_2014.jsonline  {..., "img_path": "1000092795.jpg"}, a line an image

An entry of the LMDB is a pickled dict of image_id, image_h, image_w, num_boxes, boxes [R, 4] in
pixels and features [R, F], arrays or base64 of float32, and maybe cls_prob [R, C], the soft classes
of pre-training. No pickle is run: dicts, lists, texts, numbers and numpy arrays of numbers are
followed by an own reader, and one that asks for anything else is refused by its name.

An image's key is the stem of img_path or else its id. Ids of records are "NAME/KEY" with the LMDB's
name. Splits: a word in the name of the file of captions, "train" without one. Images without an
entry, and entries whose counts, widths or boxes disagree or that hold NaN, are left out and named.
"""

import base64
import binascii
import functools
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlmo_jax.datasets.checking.faults import fault_of_regions
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.pickles import BrokenPickleError, CodeInPickleError
from vlmo_jax.datasets.plain_pickles import read_plain
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.json_lines import read_objects
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.readers.samples import clean
from vlmo_jax.datasets.readers.split_names import split_called
from vlmo_jax.datasets.records import RegionsRecord, regions_kind

KEYS = b"keys"
CLASSES = "cls_prob"
_CURE = "install it with pip install vlmo-jax[lmdb]"


class VilbertLmdbReader(DownloadReader):
    """Reads region features and captions.

    Args:
        source: folder of both.

    Raises:
        MissingDataError, DataError: there are no features or captions, or the first entry is none.
    """

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = f"Regions with captions from ViLBERT's LMDB in {source.name}."
        self._stores = sorted(source.glob("*.lmdb"))
        self._captions = sorted(p for p in source.iterdir() if p.suffix in (".jsonline", ".jsonl"))
        for found, what in ((self._stores, "*.lmdb"), (self._captions, "*.jsonline")):
            if not found:
                raise MissingDataError(
                    f"{source} has no {what}; give a folder with features and captions as"
                    " --format=vilbert_lmdb --help shows"
                )
        self._where = {key: store for store in self._stores for key in _keys(store)}
        if not self._where:
            raise DataError(f"{self._stores[0]} lists no image under the key 'keys'")
        key, store = next(iter(self._where.items()))
        first = _record(_read(store, key), store, key, ())
        width, classes = first.features.shape[1], first.classes.shape[1]
        self._widths = width, classes if len(first.classes) else 0
        self.kind = regions_kind(width, classes)

    def sources(self) -> list[pathlib.Path]:
        """The files of captions."""
        return self._captions

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        for path in self._captions:
            split = _split(path)
            for where, row in read_objects(path):
                key = _key(row, where)
                texts = tuple(dict.fromkeys(filter(None, map(clean, _sentences(row, where)))))
                store = self._where.get(key)
                name = f"{store.stem if store else path.stem}/{key}"
                if store is None or not texts:
                    why = "no caption" if store else f"no entry {key} in the LMDB"
                    self._findings.left_out[name] = why
                    continue
                self._findings.add(split, {"images": 1, "captions": len(texts)})
                yield Entry(split, name, (store.name, key), texts)

    def load(self, entry: Entry) -> RegionsRecord:
        """As `protocol.Reader`."""
        name, key = entry.place
        store = self.source / name
        try:
            record = _record(_read(store, key), store, key, entry.content, entry.record_id)
        except DataError as error:
            raise LeftOutError(str(error)) from error
        found = record.features.shape[1], record.classes.shape[1] if len(record.classes) else 0
        if found != self._widths:
            raise LeftOutError(
                f"{store} entry {key} has features of {found[0]} numbers and {found[1]} classes,"
                f" the first of the LMDB {self._widths[0]} and {self._widths[1]}"
            )
        return record


def _split(path: pathlib.Path) -> str:
    words = re.findall("[a-z]+", path.stem.lower())
    return next((split_called(word) for word in words if split_called(word) in _SPLITS), "train")


_SPLITS = ("train", "validation", "test")


def _key(row: dict[str, Any], where: str) -> str:
    """The key of an image's entry."""
    if isinstance(row.get("img_path"), str):
        return pathlib.PurePosixPath(row["img_path"]).stem
    if isinstance(row.get("id"), int | str):
        return str(row["id"])
    raise DataError(f"{where} has neither img_path nor id, by which its features are found")


def _sentences(row: dict[str, Any], where: str) -> list[str]:
    sentences = row.get("sentences")
    if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        raise DataError(f"{where} has no list of texts under 'sentences'")
    return sentences


@functools.lru_cache(maxsize=8)
def _open(store: pathlib.Path, process: int) -> Any:
    """An LMDB, opened by this process: one that was opened before a fork must not be used."""
    try:
        import lmdb  # only this format needs it
    except ImportError as error:
        raise DataError(f"{store} is an LMDB, and the package lmdb is missing; {_CURE}") from error
    try:
        return lmdb.open(
            str(store), subdir=store.is_dir(), readonly=True, lock=False, max_readers=1
        )
    except lmdb.Error as error:
        raise DataError(f"{store} cannot be opened as an LMDB: {error}") from error


def _read(store: pathlib.Path, key: str) -> Any:
    """The plain values of an entry."""
    with _open(store, os.getpid()).begin(buffers=False) as transaction:
        data = transaction.get(key.encode())
    if data is None:
        raise DataError(f"{store} has no entry {key}, which its keys list")
    try:
        return read_plain(data)
    except CodeInPickleError as error:
        raise DataError(
            f"{store} entry {key} asks for {error.name}, which no features need, and was not run;"
            " it is damaged, or made to do harm"
        ) from error
    except BrokenPickleError as error:
        raise DataError(f"{store} entry {key} cannot be read: {error}") from error


def _keys(store: pathlib.Path) -> list[str]:
    """The keys of all images of an LMDB, in its order."""
    keys = _read(store, KEYS.decode())
    if not isinstance(keys, list | tuple) or not all(isinstance(k, bytes | str) for k in keys):
        raise DataError(f"{store} entry keys must be a list of the keys of images")
    return [key.decode("latin-1") if isinstance(key, bytes) else key for key in keys]


def _record(
    item: Any, store: pathlib.Path, key: str, texts: tuple[str, ...], record_id: str = ""
) -> RegionsRecord:
    """The record of an entry.

    Raises:
        DataError: what it holds does not fit together.
    """
    where = f"{store} entry {key}"
    if not isinstance(item, dict):
        raise DataError(f"{where} is no dict but {type(item).__name__}")
    item = {name.decode() if isinstance(name, bytes) else name: v for name, v in item.items()}
    if missing := [n for n in ("features", "boxes", "image_h", "image_w") if n not in item]:
        raise DataError(f"{where} has no {', '.join(missing)}; it has {', '.join(map(str, item))}")
    boxes = _floats(item, "boxes", where)
    if boxes.size % 4:
        raise DataError(f"{where} has boxes of {boxes.size} numbers, which are not 4 a box")
    boxes = boxes.reshape(-1, 4)
    count = _whole(item, "num_boxes", where) if "num_boxes" in item else len(boxes)
    if not count or count != len(boxes):
        raise DataError(f"{where} has num_boxes={count} and {len(boxes)} boxes")
    classes = np.zeros((0, 1), np.float32)
    if CLASSES in item:
        classes = _rows(item, CLASSES, count, where)
    record = RegionsRecord(
        features=_rows(item, "features", count, where),
        boxes=boxes,
        width=np.asarray(_whole(item, "image_w", where), np.int32),
        height=np.asarray(_whole(item, "image_h", where), np.int32),
        classes=classes,
        texts=texts,
        keywords=(),
        image_id=record_id,
    )
    if fault := fault_of_regions(record):
        raise DataError(f"{where}: {fault}")
    return record


def _rows(item: dict[str, Any], name: str, count: int, where: str) -> np.ndarray:
    """An array of the item with a row a region."""
    array = _floats(item, name, where)
    rows = array.shape[0] if array.ndim == 2 else count
    if rows != count or not array.size or array.size % count:
        raise DataError(f"{where} has {count} boxes and {name} of shape {array.shape}")
    return array.reshape(count, -1)


def _floats(item: dict[str, Any], name: str, where: str) -> np.ndarray:
    """Numbers of the item, from an array or from base64 of float32."""
    value = item[name]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return np.array(value, np.float32)
    if isinstance(value, str | bytes):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), np.float32).copy()
        except (binascii.Error, ValueError) as error:
            raise DataError(f"{where} has {name} that are no base64 of float32: {error}") from error
    raise DataError(f"{where} has {name} that are no array of numbers, nor base64 of float32")


def _whole(item: dict[str, Any], name: str, where: str) -> int:
    value = item[name]
    if isinstance(value, str | bytes) and value.isdigit():
        value = int(value)
    if not isinstance(value, int | np.integer) or not 0 <= value < 2**31:
        raise DataError(f"{where} has {name}={str(value)[:40]}, which is no number of it")
    return int(value)
