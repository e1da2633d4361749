"""What img2dataset wrote: images with captions, in its forms webdataset, files and parquet.

Formats `img2dataset` (images with captions) and `img2dataset_images` (images alone, for stage 1).
The form is seen by what is there; several outputs may lie in folders of their own:

    SRC/00000_stats.json                 written last: a shard without it is not finished
    SRC/00000.parquet                    a row for each URL, failed ones too, with key and status
    SRC/00000.tar                        form webdataset: KEY.jpg, KEY.txt, KEY.json, or
    SRC/00000/000000017.jpg ...          form files: the same files in a folder; in the form
                                         parquet the images stand in the column jpg instead

Ids are shard and key, "00000/000000017", whatever the form. The caption is KEY.txt, else that of
KEY.json, else that of the row whose key it is. Rows and files meet by their keys alone, never by
their positions: failed rows have no file, and files stand in the order in which they arrived.

Splits: by the first folder from the top that is called train, val(idation) or test; else "train".

Shards without a stats file are left out as a whole, named and counted; `--format=webdataset` reads
tars without. Of a tar that was cut afterwards, the samples before that place are taken; those that
are missing are named one by one. What img2dataset could not fetch is counted by its status. Blank
captions are dropped and counted, images without one left out and named. The form tfrecord is
refused: write it again with --output_format=webdataset. Images are taken as they are; resize mode
"border", the default of img2dataset, has padded them with white.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.download_walk import Folder, walk
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.image_paths import has_image_suffix
from vlmo_jax.datasets.readers.places import InParquet, naming_damage, open_parquet
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.readers.sample_entries import captioned, list_samples
from vlmo_jax.datasets.readers.samples import clean, samples_of_folder, samples_of_tar
from vlmo_jax.datasets.readers.split_names import split_of
from vlmo_jax.datasets.readers.tars import list_tar

_STATS, _TABLE, _TAR, _TFRECORD = "_stats.json", ".parquet", ".tar", ".tfrecord"
_SUCCESS = "success"
# By --encode_format; that it names the column too was not verified, but for jpg.
_IMAGES = ("jpg", "png", "webp")
_FAILURES = ("failed_to_download", "failed_to_resize")


class _Shard(NamedTuple):
    """Args: path: relative to the source, without an ending. form: how its samples lie. table:
    whether there is a Parquet file. stats: what its stats file says, None: it is not finished.
    """

    path: str
    form: str
    table: bool
    stats: Mapping[str, Any] | None


class _Row(NamedTuple):
    """Args: key, status, caption: of a URL. group, number: of the row in its Parquet file."""

    key: str
    status: str
    caption: Any
    group: int
    number: int


class Img2datasetReader(DownloadReader):
    """Reads what img2dataset wrote. Beside images and captions it counts shards and, by its status,
    what was not fetched, such as "failed_to_download".

    Args:
        source: its output folder, or one that several are in.

    Raises:
        MissingDataError: there is no such folder.
    """

    def __init__(self, source: pathlib.Path) -> None:
        super().__init__(source)
        self.description = (
            f"{self.kind.name.capitalize()} that img2dataset fetched to {source.name}."
        )

    def sources(self) -> list[pathlib.Path]:
        """The stats files, and the tables that hold no images."""
        found = []
        for shard in filter(_finished, _find_shards(self.source)):
            found.append(self.source / f"{shard.path}{_STATS}")
            if shard.table and shard.form != _TABLE:
                found.append(self.source / f"{shard.path}{_TABLE}")
        return found

    def entries(self) -> Iterator[Entry]:
        """As `protocol.Reader`."""
        self._findings = found = Findings()
        shards = list(_find_shards(self.source))
        if not shards:
            raise MissingDataError(
                f"{self.source} holds nothing of img2dataset, such as 00000.tar with"
                " 00000_stats.json; give its output folder, or for other tars --format=webdataset"
            )
        if not any(map(_finished, shards)):
            raise DataError(
                f"none of the {len(shards):,} shards in {self.source}, as {shards[0].path}, has a"
                " stats file, so none is finished; let img2dataset finish them, or read tars"
                " as they are with --format=webdataset"
            )
        for shard in shards:
            split = split_of(f"{shard.path}{shard.form}/")
            found.add(split, {"shards" if _finished(shard) else "unfinished shards": 1})
            if _finished(shard):
                yield from self._entries(shard, split)
            else:
                found.left_out[shard.path + shard.form] = (
                    f"not finished: {shard.path}{_STATS} is missing or cut; let img2dataset finish"
                    " it, or read tars as they are with --format=webdataset"
                )

    def _entries(self, shard: _Shard, split: str) -> Iterator[Entry]:
        if shard.form == _TABLE:
            yield from self._rows_with_images(shard, split)
            return
        rows = self._rows(shard)
        self._count_failures(shard, split, rows)
        problem = ""
        if shard.form == _TAR:
            listing = list_tar(self.source / f"{shard.path}{_TAR}")
            samples = samples_of_tar(f"{shard.path}{_TAR}", listing.members)
            problem = listing.problem
            self._findings.add(split, {"cut or damaged tars": bool(problem)})
            self._findings.left_out |= {
                f"{shard.path}{_TAR}: {name}": why for name, why in listing.left_out.items()
            }
        else:
            samples = samples_of_folder(self.source, shard.path)
        keys = {sample.key for sample in samples if sample.images}
        self._name_lost(shard, rows, keys, problem)

        def caption_of(key: str) -> list[str]:
            return [clean(rows[key].caption)] if key in rows else []

        yield from list_samples(
            self.source,
            f"{shard.path}{shard.form}",
            samples,
            self._findings,
            captions=self._captions,
            otherwise=caption_of,
        )

    @property
    def _captions(self) -> bool:
        return self.kind is records.IMAGES

    def _rows(self, shard: _Shard) -> dict[str, _Row]:
        """The rows of a shard's table by their keys; {} where there is none."""
        if not shard.table:
            return {}
        rows: dict[str, _Row] = {}
        for row in _read_rows(self.source / f"{shard.path}{_TABLE}"):
            if row.key in rows:
                self._findings.left_out[f"{shard.path}/{row.key} (row {row.number})"] = (
                    "an earlier row of the table has its key"
                )
            rows.setdefault(row.key, row)
        return rows

    def _count_failures(self, shard: _Shard, split: str, rows: Mapping[str, _Row]) -> None:
        for row in rows.values():
            if row.status != _SUCCESS:
                self._findings.add(split, {row.status: 1})
        if not rows and shard.stats:
            numbers = {name: shard.stats.get(name) for name in _FAILURES}
            self._findings.add(
                split, {name: n for name, n in numbers.items() if isinstance(n, int)}
            )

    def _name_lost(
        self, shard: _Shard, rows: Mapping[str, _Row], keys: set[str], problem: str
    ) -> None:
        """Names what img2dataset fetched and is not there any more."""
        where = f"{shard.path}{shard.form}"
        why = f"{where}: {problem}" if problem else f"it was fetched, but is not in {where}"
        for row in rows.values():
            if row.status == _SUCCESS and row.key not in keys:
                self._findings.left_out[f"{shard.path}/{row.key}"] = why
        wanted = (shard.stats or {}).get("successes")
        if problem or not rows and isinstance(wanted, int) and wanted > len(keys):
            of = f" of {wanted:,}" if isinstance(wanted, int) else ""
            self._findings.left_out[where] = (
                f"{problem or 'images are missing'}; the {len(keys):,}{of} that are there are used"
            )

    def _rows_with_images(self, shard: _Shard, split: str) -> Iterator[Entry]:
        path = self.source / f"{shard.path}{_TABLE}"
        columns = open_parquet(path).schema_arrow.names
        column = next((name for name in _IMAGES if name in columns), None)
        if column is None:
            raise _without_images(self.source / shard.path)
        rows = self._rows(shard)
        self._count_failures(shard, split, rows)
        for row in rows.values():
            if row.status != _SUCCESS:
                continue
            record_id = f"{shard.path}/{row.key}"
            place = InParquet(f"{shard.path}{_TABLE}", row.group, row.number, column)
            if not self._captions:
                self._findings.add(split, {"images": 1})
                yield Entry(split, record_id, place)
                continue
            try:
                texts = [clean(row.caption)]
            except LeftOutError as error:
                self._findings.left_out[record_id] = str(error)
                continue
            entry = captioned(split, record_id, place, texts, self._findings)
            if entry is not None:
                yield entry


class Img2datasetImagesReader(Img2datasetReader):
    """Reads the images alone."""

    kind = records.BARE_IMAGES


def _finished(shard: _Shard) -> bool:
    return shard.stats is not None


def _find_shards(root: pathlib.Path) -> Iterator[_Shard]:
    for folder in walk(root):
        yield from _shards_in(root, folder)


def _shards_in(root: pathlib.Path, folder: Folder) -> Iterator[_Shard]:
    files = set(folder.files)
    for name in folder.files:
        if name.endswith(_TFRECORD):
            raise DataError(
                f"{root / folder.at(name)} is of the form tfrecord, which is not read; run"
                " img2dataset again with --output_format=webdataset, files or parquet"
            )
    if folder.path and any(map(has_image_suffix, files)):
        yield _Shard(folder.path, "", False, None)
    ends = (_STATS, _TAR, _TABLE)
    stems = {name.removesuffix(end) for name in files for end in ends if name.endswith(end)}
    for stem in sorted(stems | {name for name in folder.folders if name.isdigit()}):
        finished, table = f"{stem}{_STATS}" in files, f"{stem}{_TABLE}" in files
        if f"{stem}{_TAR}" in files:
            form = _TAR
        elif stem in folder.folders and (finished or table):
            form = ""
            folder.folders.remove(stem)
        elif table and (finished or stem.isdigit()):
            form = _TABLE
        elif finished:
            raise _without_images(root / folder.at(stem))
        else:
            continue
        stats = _read_stats(root / folder.at(f"{stem}{_STATS}")) if finished else None
        yield _Shard(folder.at(stem), form, table, stats)


def _without_images(stem: pathlib.Path) -> MissingDataError:
    return MissingDataError(
        f"{stem}{_STATS} is there, but neither {stem.name}{_TAR} nor a folder {stem.name}; copy"
        " them again, or take the stats file away to do without"
    )


def _read_stats(path: pathlib.Path) -> Mapping[str, Any] | None:
    """What a stats file says; None where it was cut, as when img2dataset was stopped there."""
    try:
        stats = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    return stats if isinstance(stats, dict) else None


def _read_rows(path: pathlib.Path) -> Iterator[_Row]:
    """The rows of a table, without its images."""
    file = open_parquet(path)
    names = file.schema_arrow.names
    if "key" not in names:
        raise DataError(
            f"{path} has no column key, so it is no table of img2dataset; its columns are"
            f" {', '.join(names[:20])}"
        )
    caption = next((name for name in ("txt", "caption") if name in names), None)
    columns = [name for name in ("key", "status", caption) if name in names]
    for group in range(file.num_row_groups):
        with naming_damage(path):
            table = file.read_row_group(group, columns=columns).to_pydict()
        for number, key in enumerate(table["key"]):
            status = table["status"][number] if "status" in table else _SUCCESS
            text = table[caption][number] if caption else None
            yield _Row(str(key), str(status), text, group, number)
