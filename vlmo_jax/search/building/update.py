"""Makes an index of a folder of pictures, or brings it up to date: only what is new is encoded."""

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import PIL

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.folders import require_writable
from vlmo_jax.datasets.left_out import left_out_table
from vlmo_jax.inference.model import Model
from vlmo_jax.search.about import DTYPES, NAME, Origin, write_whole
from vlmo_jax.search.building.captions import CaptionsBeside
from vlmo_jax.search.building.making import Facts, Making, Part, as_text, locked
from vlmo_jax.search.building.prepare import New, Prepared, Preparer, Seen
from vlmo_jax.search.building.publish import Contents, Known, Row, publish
from vlmo_jax.search.building.walk import FoundFile, NoPicturesError, Walk, Walked
from vlmo_jax.search.index import GENERATIONS, MAKING, THUMBNAILS, Index, open_index
from vlmo_jax.search.origins import origin_of

DECODER = f"Pillow {PIL.__version__}"
PART = 256  # pictures that are kept together, once they are encoded
SKIPPED = "skipped.tsv"  # for people: path, tab, reason

# Called with (pictures done, pictures to do) as they are.
Tell = Callable[[int, int], object]


class WrongFolderError(UserError, ValueError):
    """A folder that holds something else than an index, or the index of other pictures."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of a folder of pictures.

    Attributes:
        rows: pictures in the index now.
        new, changed, removed: of them, since the index that was there.
        encoded: how many the model has looked at.
        skipped: pictures that could not be used.
        others, hidden, excluded: files and folders that were left out.
        without_caption: names in the file of captions that lead to no picture.
        seconds: that it took.
    """

    rows: int
    new: int
    changed: int
    removed: int
    encoded: int
    skipped: int
    others: int
    hidden: int
    excluded: int
    without_caption: int
    seconds: float


def update_index(
    pictures: Path,
    folder: Path,
    model: Model,
    model_folder: str | os.PathLike,
    *,
    captions_file: Path | None = None,
    exclude: Sequence[str] = (),
    dtype: str | None = None,
    restart: bool = False,
    tell: Tell = lambda done, total: None,
) -> Summary:
    """Makes an index, or brings it up to date.

    Args:
        pictures: folder of them.
        folder: of the index; made if missing.
        model: that encodes them.
        model_folder: that it was loaded from; the index remembers it.
        captions_file: of the pictures, or None.
        exclude: patterns of names or paths that are left out.
        dtype: of the vectors; None: that of the index, or float32.
        restart: make it anew whatever is there. The old one stays until then.
        tell: is told of the progress.

    Returns:
        What became of the pictures.

    Raises:
        NoPicturesError: there is nothing to make an index of.
        OtherModelError: the index is of another model.
        WrongFolderError: `folder` holds something else.
        IndexInUseError: another command is at it.
    """
    started = time.perf_counter()
    _require_own(folder)
    require_writable(folder)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(folder))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"PIL\.")  # what counts is refused, and listed
        origin, old = origin_of(model, model_folder), None
        if (folder / NAME).exists() and not restart:
            old = stack.enter_context(open_index(folder))
            _require_same(old, origin, pictures, dtype)
        making = Making(folder, origin, restart=restart)
        walked = Walk(pictures, folder, exclude).run()
        work = _Work(pictures, model, old, making)
        work.look(walked, tell)
        captions = CaptionsBeside(pictures, walked.files, captions_file)
        rows = work.rows(captions)
        _require_some(rows, walked, work, pictures, old)
        if not work.is_same(rows):
            contents = Contents(rows, work.known, work.skipped, old, making)
            dtype = dtype or (old.about.dtype if old else DTYPES[0])
            publish(
                folder, contents, origin=origin, pictures=pictures, dtype=dtype, decoder=DECODER
            )
        making.remove()
        reasons = {path: why for path, (why, *_) in work.skipped.items()}
        write_whole(folder / SKIPPED, left_out_table(reasons).encode())
    return _summarize(rows, walked, work, len(captions.missing), time.perf_counter() - started)


def _summarize(
    rows: Sequence[Row], walked: Walked, work: "_Work", without_caption: int, seconds: float
) -> Summary:
    before, now = work.before, {row.path: row.digest for row in rows}
    return Summary(
        rows=len(rows),
        new=len(now.keys() - before.keys()),
        changed=sum(before[path].digest != now[path] for path in before.keys() & now.keys()),
        removed=len(before.keys() - now.keys()),
        encoded=work.encoded,
        skipped=len(work.skipped),
        others=walked.others,
        hidden=walked.hidden,
        excluded=walked.excluded,
        without_caption=without_caption,
        seconds=seconds,
    )


def _require_own(folder: Path) -> None:
    """Nothing of anybody's is to be mixed with an index, or removed by it."""
    if not folder.is_dir():
        return
    ours = {NAME, SKIPPED, "lock", GENERATIONS, THUMBNAILS, MAKING}
    names = {path.name for path in folder.iterdir() if path.suffix != ".partial"}
    if names and not names & {NAME, MAKING, "lock"}:
        raise WrongFolderError(
            f"{folder} holds other files ({min(names - ours, default='?')}); give a folder of its"
            " own"
        )


def _require_same(old: Index, origin: Origin, pictures: Path, dtype: str | None) -> None:
    old.about.origin.require_same(origin, old.folder, "or --restart to make the index anew")
    if old.root.is_dir() and old.root.resolve() != pictures.resolve():
        raise WrongFolderError(
            f"{old.folder} is the index of {old.about.pictures}, not of {pictures}; give that one,"
            " another INDEX, or --restart to make it anew"
        )
    if dtype is not None and dtype != old.about.dtype:
        raise WrongFolderError(
            f"{old.folder} holds vectors of {old.about.dtype}, not {dtype}; leave out --dtype, or"
            " give --restart to make them anew"
        )


def _require_some(
    rows: Sequence[Row], walked: Walked, work: "_Work", pictures: Path, old: Index | None
) -> None:
    if rows:
        return
    if old is not None and len(old):
        raise NoPicturesError(
            f"{pictures} holds none of the {len(old):,} pictures of {old.folder} any more; is its"
            " drive there? If they are meant to be gone, remove the index"
        )
    first = next((f"; of {name}: {why[0]}" for name, why in work.skipped.items()), "")
    raise NoPicturesError(
        f"{pictures} holds no picture that can be used, subfolders included ({len(work.skipped):,}"
        f" cannot, {walked.others:,} other files, {walked.hidden:,} hidden){first}"
    )


class _Work:
    """What is known of the pictures, and what becomes known.

    Args:
        pictures: folder of them.
        model: that encodes them.
        old: the index that is there, or None.
        making: what was encoded since.
    """

    def __init__(self, pictures: Path, model: Model, old: Index | None, making: Making) -> None:
        self._pictures, self._model, self._making = pictures, model, making
        self.known: dict[bytes, Known] = {}
        self._seen: dict[str, Seen] = {}
        self._skipped_before: dict[str, tuple[str, int | None, int | None]] = {}
        self.skipped: dict[str, tuple[str, int | None, int | None]] = {}
        self.before: dict[str, Row] = {}
        self._files: list[FoundFile] = []
        self._closed: list[str] = []
        self.encoded = 0
        self._renewed = True
        if old is not None:
            self._remember(old)
        for number, part in making.parts():
            self._learn(number, part)

    def _remember(self, old: Index) -> None:
        statement = (
            "SELECT row, path, real, size, mtime_ns, settled, digest, caption, width, height,"
            " taken, note FROM pictures ORDER BY row"
        )
        for number, *values in old.pictures.table(statement):
            row, facts = _row_of(*values[:7]), Facts(*values[7:])
            self.known.setdefault(row.digest, Known(facts, None, number))
            self._seen[row.path] = Seen(
                row.path, row.size, row.mtime_ns, bool(row.settled), row.digest
            )
            self.before[row.path] = row
        moved = not Path(old.about.pictures).is_dir()
        self._renewed = moved or old.about.decoder != DECODER
        if old.about.decoder == DECODER:
            table = old.pictures.table("SELECT path, reason, size, mtime_ns FROM skipped")
            self._skipped_before = {os.fsdecode(path): tuple(rest) for path, *rest in table}

    def _learn(self, number: int, part: Part) -> None:
        for place, (seen, facts) in enumerate(zip(part.seen, part.facts, strict=True)):
            self.known.setdefault(seen.digest, Known(facts, number, place))
            self._seen[seen.path] = seen

    def look(self, walked: Walked, tell: Tell) -> None:
        """Reads and encodes what is new among the files that were found."""
        self._files, self._closed = walked.files, walked.closed
        self.skipped = {path: (why, None, None) for path, why in walked.skipped.items()}
        waiting = [one for one in walked.files if not self._is_done(one)]
        preparer = Preparer(self._pictures, self._model.image_form, self.known.__contains__)
        made: list[tuple[Seen, New]] = []
        found = {one.path: one for one in waiting}
        tell(0, len(waiting))
        for done, one in enumerate(preparer.all(waiting), 1):
            self._note(one, found[one.path], made)
            if len(made) == PART:
                self._encode(made)
                made = []
            tell(done - len(made), len(waiting))
        if made:
            self._encode(made)
            tell(len(waiting), len(waiting))

    def _is_done(self, found: FoundFile) -> bool:
        seen = self._seen.get(found.path)
        if seen and seen.settled and (seen.size, seen.mtime_ns) == (found.size, found.mtime_ns):
            return True
        before = self._skipped_before.get(found.path)
        if before is not None and before[1:] == (found.size, found.mtime_ns):
            self.skipped[found.path] = before
            return True
        return False

    def _note(self, one: Prepared, found: FoundFile, made: list[tuple[Seen, New]]) -> None:
        if one.seen is None:
            stat = (None, None) if one.again else (found.size, found.mtime_ns)
            self.skipped[one.path] = (one.reason, *stat)
            self._seen.pop(one.path, None)
            return
        self._seen[one.path] = one.seen
        if one.new is not None and one.seen.digest not in self.known:
            made.append((one.seen, one.new))

    def _encode(self, made: Sequence[tuple[Seen, New]]) -> None:
        vectors = self._model.encode_image([new.pixels for _, new in made])
        facts = [Facts(new.width, new.height, as_text(new.taken), new.note) for _, new in made]
        thumbnails = [new.thumbnail for _, new in made]
        part = Part(vectors, thumbnails, [seen for seen, _ in made], facts)
        self._learn(self._making.add(part), part)
        self.encoded += len(made)

    def rows(self, captions: CaptionsBeside) -> list[Row]:
        """The pictures of the index, in the order of the bytes of their paths."""
        rows = [self._row(one, captions) for one in self._files if one.path not in self.skipped]
        rows += self._below_closed()
        return sorted(rows, key=lambda row: os.fsencode(row.path))

    def _row(self, found: FoundFile, captions: CaptionsBeside) -> Row:
        seen = self._seen[found.path]
        caption = captions.of(found, self.known[seen.digest].facts.note)
        return Row(
            found.path, found.real, seen.size, seen.mtime_ns, seen.settled, seen.digest, caption
        )

    def is_same(self, rows: Sequence[Row]) -> bool:
        """Whether the index that is there says all of that already."""
        same = not self._renewed and self.skipped == self._skipped_before
        return same and list(rows) == list(self.before.values())

    def _below_closed(self) -> Iterable[Row]:
        """What was known below folders that cannot be looked into now: they may come back."""
        below = tuple(f"{folder}/" for folder in self._closed if folder)
        for path, row in self.before.items():
            if "" in self._closed or path.startswith(below):
                yield row


def _row_of(path: bytes, real: bytes | None, *rest: Any) -> Row:
    """A row of the index that is there, of what its file says."""
    return Row(os.fsdecode(path), None if real is None else os.fsdecode(real), *rest)
