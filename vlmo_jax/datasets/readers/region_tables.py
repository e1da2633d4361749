"""Regions as the bottom-up attention detector wrote them, a line an image.

Format `bottom_up_tsv`:

    SRC/*.tsv               image_id, image_w, image_h, num_boxes, boxes, features; both arrays
                            float32 in base64. Files are read in the order of their names
    SRC/captions.jsonl      {"image_id": "391895", "captions": ["...", ...], "split": "train"}
    SRC/dataset_coco.json   or Karpathy's file in its place, also dataset_flickr30k.json, whose
                            images are known by `cocoid`, or by the number in `filename`

A line that holds other columns, or arrays of another length than num_boxes says, ends the build and
is named. Images without captions are left out; captions without regions are counted. NaN, infinity
and boxes outside of the image leave a record out, too.

Lines are found by their place in the file and read one by one: memory does not grow with the files.
`--option dtype=float16` writes half as much. Ids are those of the detector.
"""

import base64
import binascii
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import records
from vlmo_jax.datasets.checking.faults import fault_of_regions
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.captioned_images import caption
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.json_lines import read_objects
from vlmo_jax.datasets.readers.karpathy import numbered_captions
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.readers.region_arrays import dtype_called
from vlmo_jax.datasets.readers.split_names import split_called

COLUMNS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
CAPTIONS = "captions.jsonl"
_LONGEST = 64 * 2**20  # bytes of a line: 100 regions of 2,048 numbers take 1.1 million
_MOST = 10_000  # regions of an image


class _Line(NamedTuple):
    """A line of a table.

    Attributes:
        image_id: of the detector.
        width, height: of the image in pixels.
        boxes: [R, 4] float32.
        features: [R, F] float32.
    """

    image_id: str
    width: int
    height: int
    boxes: np.ndarray
    features: np.ndarray


class BottomUpReader(DownloadReader):
    """Reads the tables and the captions.

    Args:
        source: folder of the download.
        dtype: of the features on disk, "float32" or "float16".

    Raises:
        MissingDataError, DataError: there is no table, no captions, or the first line is none.
    """

    description = "Regions of images with captions, of a bottom-up attention detector."

    def __init__(self, source: pathlib.Path, dtype: str = "float32") -> None:
        super().__init__(source)
        self._tables = sorted(self.source.glob("*.tsv"))
        if not self._tables:
            raise MissingDataError(f"{source} has no .tsv; give the folder that they lie in")
        names = (CAPTIONS, "dataset_coco.json", "dataset_flickr30k.json")
        files = [self.source / name for name in names if (self.source / name).is_file()]
        if not files:
            raise MissingDataError(
                f"{source} has none of {', '.join(names)}, so its regions have no captions; put one"
                " there"
            )
        self._captions = files[0]
        _, _, raw = next(_raw_lines(self._tables[0]), (0, 0, b""))
        width = _parse(raw, f"{self._tables[0]} line 1").features.shape[1]
        self.kind = records.regions_kind(width, dtype=dtype_called(dtype))
        self._width = width

    def sources(self) -> list[pathlib.Path]:
        """The captions; as `protocol.Reader`."""
        return [self._captions]

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        captions, seen = self._read_captions(), set()
        for path in self._tables:
            for number, (offset, size, raw) in enumerate(_raw_lines(path), 1):
                image_id = _image_id(raw, f"{path} line {number}")
                if image_id in seen:
                    self._findings.left_out[f"{image_id} again"] = f"{path} line {number}"
                elif image_id not in captions:
                    self._findings.left_out[image_id] = f"it has no caption in {self._captions}"
                else:
                    split, texts = captions[image_id]
                    self._findings.add(split, {"images": 1, "captions": len(texts)})
                    yield Entry(split, image_id, (str(path), number, offset, size), texts)
                seen.add(image_id)
        for image_id in captions.keys() - seen:
            self._findings.add(captions[image_id][0], {"captioned images without regions": 1})

    def _read_captions(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """{image_id: (split, captions)}."""
        if self._captions.name != CAPTIONS:
            return numbered_captions(self._captions)
        found = {}
        for where, row in read_objects(self._captions):
            texts, split = row.get("captions"), row.get("split", "train")
            if "image_id" not in row or not isinstance(texts, list) or not isinstance(split, str):
                raise DataError(
                    f'{where} must be like {{"image_id": "391895", "captions": ["..."], "split":'
                    ' "train"}'
                )
            own = tuple(caption(text, where) for text in texts)
            found[str(row["image_id"])] = (split_called(split), own)
        return found

    def load(self, entry: Entry) -> records.RegionsRecord:
        """As `protocol.Reader`."""
        path, number, offset, size = entry.place
        where = f"{path} line {number}"
        with open(path, "rb") as file:
            file.seek(offset)
            line = _parse(file.read(size), where)
        if line.features.shape[1] != self._width:
            raise DataError(
                f"{where} has features of {line.features.shape[1]} numbers, the first line of the"
                f" tables of {self._width}; they are those of different detectors"
            )
        record = records.RegionsRecord(
            features=line.features,
            boxes=line.boxes,
            width=np.int32(line.width),
            height=np.int32(line.height),
            classes=np.zeros((0, 1), np.float32),
            texts=entry.content,
            keywords=(),
            image_id=entry.record_id,
        )
        if fault := fault_of_regions(record):
            raise LeftOutError(f"{where}: {fault}")
        return record


def _raw_lines(path: pathlib.Path) -> Iterator[tuple[int, int, bytes]]:
    """(offset, bytes, the line) of each line of a table."""
    offset = 0
    with path.open("rb") as file:
        while raw := file.readline(_LONGEST):
            if len(raw) == _LONGEST:
                raise DataError(f"{path}: the line at byte {offset} is longer than {_LONGEST:,}")
            if raw.strip():
                yield offset, len(raw), raw
            offset += len(raw)


def _image_id(raw: bytes, where: str) -> str:
    name = raw.partition(b"\t")[0].decode("utf-8", "replace")
    if not name or len(name) > 200:
        raise DataError(f"{where} begins with no image_id; the columns are {', '.join(COLUMNS)}")
    return name


def _parse(raw: bytes, where: str) -> _Line:
    """The values of a line.

    Raises:
        DataError: it is none of such a table.
    """
    values = raw.rstrip(b"\r\n").split(b"\t")
    if len(values) != len(COLUMNS):
        raise DataError(
            f"{where} has {len(values)} columns, not {len(COLUMNS)}: {', '.join(COLUMNS)}, with"
            " tabs between them"
        )
    numbers = values[1:4]
    if not all(value.isdigit() and len(value) < 10 for value in numbers):
        raise DataError(f"{where}: image_w, image_h and num_boxes must be whole numbers")
    width, height, count = map(int, numbers)
    if not 1 <= count <= _MOST:
        raise DataError(f"{where}: num_boxes={count} must be 1 to {_MOST:,}")
    boxes, features = (
        _decode(value, name, where) for name, value in zip(COLUMNS[4:], values[4:], strict=True)
    )
    if len(boxes) != 4 * count:
        raise DataError(f"{where}: {len(boxes)} numbers are not those of num_boxes={count} boxes")
    if not len(features) or len(features) % count:
        raise DataError(
            f"{where}: {len(features):,} numbers of features do not divide over num_boxes={count}"
        )
    image_id = _image_id(raw, where)
    return _Line(image_id, width, height, boxes.reshape(-1, 4), features.reshape(count, -1))


def _decode(value: bytes, name: str, where: str) -> np.ndarray:
    try:
        decoded = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"{where}: {name} is not base64 ({error})") from error
    if len(decoded) % 4:
        raise DataError(f"{where}: {name} has {len(decoded):,} bytes, which are no float32 numbers")
    return np.frombuffer(decoded, "<f4").astype(np.float32)
