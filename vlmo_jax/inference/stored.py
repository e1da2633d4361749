"""Vectors of many inputs in a folder, in parts that are whole or not there.

Part 00000 is `part-00000.npy`, [rows, D], and `part-00000.jsonl`, whose line n names row n, which
`part-00000.parquet` has as a table; what could not be used is in `part-00000.skipped.jsonl`, and of
all parts in `skipped.jsonl`. Of which model they are says `about.json`.
"""

import contextlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.folders import require_writable
from vlmo_jax.datasets.tables import printable

ABOUT, SKIPPED = "about.json", "skipped.jsonl"
_PARTIAL = ".partial"  # of a file that is not whole yet
_PART = re.compile(r"part-\d{5,}\.(npy|parquet|jsonl|skipped\.jsonl)(\.partial)?")


class OtherVectorsError(UserError, ValueError):
    """A folder with other vectors than those that are to be made."""


class Part(NamedTuple):
    """The vectors of consecutive inputs.

    Attributes:
        vectors: float [rows, D].
        ids: [rows], what each row is called.
        names: [rows], of the inputs that they come from.
        skipped: (name, why) of inputs that could not be used.
    """

    vectors: np.ndarray
    ids: Sequence[str]
    names: Sequence[str]
    skipped: Sequence[tuple[str, str]]


class Counts(NamedTuple):
    """What lies in a folder.

    Attributes:
        rows: vectors.
        skipped: inputs without.
        parts: files.
        reused: of them, how many were there before.
    """

    rows: int
    skipped: int
    parts: int
    reused: int


class Store:
    """A folder of vectors that is being made, or goes on.

    Args:
        folder: of them; made if missing.
        about: JSON values that say what the vectors are: those of a folder that goes on must be the
            same.
        restart: remove what is there of an earlier start.

    Raises:
        OtherVectorsError: there are others.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], *, restart: bool = False) -> None:
        require_writable(folder)
        self.folder, self._about = folder, dict(about)
        self._before = self._read_before()
        if restart:
            self._remove()
        self._check_same()
        self._write(ABOUT, json.dumps({**self._about, "finished": False}, indent=1) + "\n")

    def _read_before(self) -> dict[str, Any]:
        """What the folder says of itself, nothing if it is empty; refuses that of others."""
        path, others = self.folder / ABOUT, sorted(self.folder.iterdir())
        if path.exists():
            with contextlib.suppress(ValueError):
                before = json.loads(path.read_text())
                if isinstance(before, dict) and "fingerprint" in before:
                    return before
            others = [path]
        for other in others:
            if other.suffix != _PARTIAL:
                raise OtherVectorsError(
                    f"{self.folder} holds other files ({other.name}); give a folder of its own"
                )
        return {}

    def _remove(self) -> None:
        for path in self.folder.iterdir():
            if _PART.fullmatch(path.name) or path.name == SKIPPED:
                path.unlink()

    def _check_same(self) -> None:
        if not any(self.folder.glob("part-*.jsonl")):
            return
        for key, value in self._about.items():
            if self._before.get(key) != value:
                raise OtherVectorsError(
                    f"{self.folder} holds vectors of {key}={self._before.get(key)!r}, and now it is"
                    f" {value!r}; give another folder, or --restart to make these anew"
                )

    def fill(
        self,
        names_of: Iterable[Any],
        part_inputs: int,
        encode: Callable[[list[Any]], Part],
        told: Callable[[int, Part | None], object],
    ) -> Counts:
        """Makes the parts that are missing.

        Args:
            names_of: inputs with a `name`, in an order that stays.
            part_inputs: inputs of a part.
            encode: gives their vectors.
            told: called with the number of each part, and the part where it was made now.

        Raises:
            OtherVectorsError: a part that is there comes from other inputs.
        """
        rows = skipped = reused = number = 0
        for number, chunk in enumerate(_chunks(names_of, part_inputs), 1):
            stem, part = f"part-{number - 1:05d}", None
            if (self.folder / f"{stem}.jsonl").exists():
                self._check_inputs(stem, [one.name for one in chunk])
                reused += 1
            else:
                part = encode(chunk)
                self._write_part(stem, part)
            found, left = self._lines(f"{stem}.jsonl"), self._lines(f"{stem}.skipped.jsonl")
            rows, skipped = rows + len(found), skipped + len(left)
            told(number, part)
        if (self.folder / f"part-{number:05d}.jsonl").exists():
            raise self._changed(f"part-{number:05d}")
        return Counts(rows, skipped, number, reused)

    def finish(self, counts: Counts, left_out: Mapping[str, str]) -> int:
        """Lists what was skipped and marks the folder as finished.

        Args:
            counts: of `fill`.
            left_out: {name: why} of what was no input at all.

        Returns:
            How many inputs are listed as skipped.
        """
        lines = [
            line
            for number in range(counts.parts)
            for line in self._lines(f"part-{number:05d}.skipped.jsonl")
        ]
        lines += [json.dumps({"input": name, "reason": why}) for name, why in left_out.items()]
        self._write(SKIPPED, "".join(f"{line}\n" for line in lines))
        facts = {"finished": True, "rows": counts.rows, "skipped": len(lines)}
        about = {**self._about, **facts, "parts": counts.parts}
        self._write(ABOUT, json.dumps(about, indent=1) + "\n")
        return len(lines)

    def _check_inputs(self, stem: str, names: Sequence[str]) -> None:
        rows = [json.loads(line) for line in self._lines(f"{stem}.jsonl")]
        kept = [row.get("input", row["id"]) for row in rows]
        kept += [json.loads(line)["input"] for line in self._lines(f"{stem}.skipped.jsonl")]
        if sorted(kept) != sorted(names):
            raise self._changed(stem)

    def _changed(self, stem: str) -> OtherVectorsError:
        return OtherVectorsError(
            f"{self.folder / stem}: the inputs have changed since it was made; give another folder,"
            " or --restart to make all parts anew"
        )

    def _write_part(self, stem: str, part: Part) -> None:
        partial = self.folder / f"{stem}.npy{_PARTIAL}"
        with partial.open("wb") as file:
            np.save(file, part.vectors)
        os.replace(partial, self.folder / f"{stem}.npy")
        _write_table(self.folder / f"{stem}.parquet", part)
        lines = (json.dumps({"input": name, "reason": why}) for name, why in part.skipped)
        self._write(f"{stem}.skipped.jsonl", "".join(f"{line}\n" for line in lines))
        rows = (
            {"id": one} if one == name else {"id": one, "input": name}
            for one, name in zip(part.ids, part.names, strict=True)
        )
        # Last, as it is by this file that the part is there.
        self._write(f"{stem}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def _write(self, name: str, text: str) -> None:
        partial = self.folder / f"{name}{_PARTIAL}"
        partial.write_text(text)
        os.replace(partial, self.folder / name)


def _write_table(path: Path, part: Part) -> None:
    """Ids and names of the rows, for programs that read tables."""
    columns = {"id": part.ids, "input": part.names}
    table = {name: [printable(one) for one in column] for name, column in columns.items()}
    partial = path.with_name(path.name + _PARTIAL)
    types = pa.schema([(name, pa.string()) for name in columns])
    pq.write_table(pa.table(table, types), partial)
    os.replace(partial, path)


def read_vectors(folder: Path) -> tuple[np.ndarray, list[str]]:
    """All vectors of a finished folder, [rows, D], and what each row is called.

    Raises:
        OtherVectorsError: it is not finished, or its parts do not go together.
    """
    about = json.loads((folder / ABOUT).read_text())
    if not about["finished"]:
        raise OtherVectorsError(f"{folder} is not finished; give its command again")
    stems = [folder / f"part-{number:05d}" for number in range(about["parts"])]
    vectors = np.concatenate([np.load(stem.with_suffix(".npy")) for stem in stems])
    lines = [stem.with_suffix(".jsonl").read_text().splitlines() for stem in stems]
    ids = [json.loads(line)["id"] for line in itertools.chain(*lines)]
    if not len(vectors) == len(ids) == about["rows"]:
        raise OtherVectorsError(
            f"{folder} has {len(vectors)} vectors and {len(ids)} names for {about['rows']} rows;"
            " a part was changed: make it anew with --restart"
        )
    return vectors, ids


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
