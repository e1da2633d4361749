"""Searches an index: pictures that fit texts and pictures, best first.

    python -m vlmo_jax.search query my_index "a red heart"
    python -m vlmo_jax.search query my_index --image=holiday.jpg              # more like this
    python -m vlmo_jax.search query my_index "at night" --image=holiday.jpg   # both together
    python -m vlmo_jax.search query my_index beach --minus=people --minus=boat^0.5
    python -m vlmo_jax.search query my_index "a dog^2" --minus_image=my_dog.jpg
    python -m vlmo_jax.search query my_index "two cats" --rerank=50           # slower, and finer
    python -m vlmo_jax.search query my_index cake --folder=2024 --since=2024-05 --until=2024-08
    python -m vlmo_jax.search query my_index cake --store=http://localhost:6333/pictures
    python -m vlmo_jax.search query my_index receipt --paths --null | xargs -0 cp -t receipts/

All that is given is added up: texts, --image=FILE and --like=ID (a picture of the index) with the
weight 1, --minus=TEXT, --minus_image=FILE and --unlike=ID with the weight -1. Another weight stands
behind, after a ^: "a dog^2" counts twice, --minus=boat^0.5 takes half away. A text that itself ends
so needs one more: "x^2^1".

SCORE is the cosine of the two vectors, -1 to 1: it ranks pictures for one question and says little
by itself. With --rerank=N, the fusion encoder looks at the N best together with the texts, and
MATCH is the probability that the picture shows them all, and none of those behind --minus; these
are put first in that order. Pictures do not count for MATCH.

A picture that is given by --like or --unlike is not among the answers; one given as a file is, if
the index has it. Long texts are cut to what the model reads, with a word about it.
"""

import argparse
import calendar
import contextlib
import datetime
import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.tables import printable
from vlmo_jax.search.demo.bundled import model_folder
from vlmo_jax.search.index import Index, open_index
from vlmo_jax.search.questions import Hit, Query, QueryError, Term

if TYPE_CHECKING:
    from vlmo_jax.search.queries import Searcher

_WEIGHT = re.compile(r"(.*)\^(\d+(?:\.\d*)?|\.\d+)", re.S)
_DAY = re.compile(r"(\d{4})(?:-(\d\d?))?(?:-(\d\d?))?")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.search query",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("index", metavar="INDEX", type=user_path, help="folder of the index")
    parser.add_argument("text", metavar="TEXT", nargs="*", help="what to look for")
    for name, what, whose in (
        ("image", "FILE", "a picture to add"),
        ("like", "ID", "a picture of the index to add, by its id"),
        ("minus", "TEXT", "a text to take away"),
        ("minus_image", "FILE", "a picture to take away"),
        ("unlike", "ID", "a picture of the index to take away"),
    ):
        parser.add_argument(f"--{name}", metavar=what, action="append", default=[], help=whose)
    parser.add_argument("--top_k", type=int, default=10, metavar="N", help="pictures (default: 10)")
    parser.add_argument("--rerank", type=int, default=0, metavar="N", help="match the N best")
    parser.add_argument("--group_duplicates", action="store_true", help="show near copies once")
    parser.add_argument("--folder", help="only pictures in it, such as 2024/summer")
    parser.add_argument("--since", metavar="DAY", help="taken then or later: 2024, 2024-05-31")
    parser.add_argument("--until", metavar="DAY", help="taken then or before")
    parser.add_argument(
        "--model", metavar="DIR", type=model_folder, help="where the model is now, if it was moved"
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument(
        "--store", metavar="URL", help="search there, as `index --store` has put it"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print JSON lines")
    how.add_argument("--paths", action="store_true", help="print paths alone, for pipes")
    parser.add_argument("--null", action="store_true", help="end paths by NUL, for xargs -0")
    return parser.parse_intermixed_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Answers the question of the command line."""
    args = parse(argv)
    with contextlib.ExitStack() as stack:
        # What the model says of texts that are cut is for programs; people are told below.
        asking = logging.getLogger("vlmo_jax.inference.asking")
        stack.callback(asking.setLevel, asking.level)
        asking.setLevel(logging.ERROR)
        index = stack.enter_context(open_index(args.index))
        query = make_query(args, index)
        # Only now, so that --help and what cannot be need not wait for them.
        from vlmo_jax.search.commands.models import load_model
        from vlmo_jax.search.queries import Searcher

        engine = None
        if args.store:
            from vlmo_jax.search.engine.qdrant import open_store
            from vlmo_jax.search.engine.stored_index import search_in_store

            store = stack.enter_context(contextlib.closing(open_store(args.store)))
            engine = search_in_store(store, index)
        searcher = Searcher(index, load_model(args.model, index.about, args.tokenizer), engine)
        hits = searcher.search(query)
        if args.paths:
            _print_paths(index, hits, b"\0" if args.null else b"\n")
        elif args.json:
            for rank, hit in enumerate(hits, 1):
                print(json.dumps(as_json(index, rank, hit)))
        else:
            _print_table(hits)
        _tell(index, searcher, query, len(hits))


def make_query(args: argparse.Namespace, index: Index) -> Query:
    """The question of a command line.

    Raises:
        QueryError: it cannot be asked.
    """
    terms = [
        *(_term(text, 1.0, "text") for text in args.text),
        *(_term(path, 1.0, "image") for path in args.image),
        *(_term(one, 1.0, "picture_id") for one in args.like),
        *(_term(text, -1.0, "text") for text in args.minus),
        *(_term(path, -1.0, "image") for path in args.minus_image),
        *(_term(one, -1.0, "picture_id") for one in args.unlike),
    ]
    return Query(
        terms,
        top_k=args.top_k,
        rerank=args.rerank,
        folder=None if args.folder is None else _folder(args.folder, index),
        since=parse_day("since", args.since),
        until=parse_day("until", args.until, last=True),
        group_duplicates=args.group_duplicates,
    )


def _term(given: str, sign: float, field: str) -> Term:
    found = _WEIGHT.fullmatch(given)
    text, weight = (found[1], float(found[2])) if found else (given, 1.0)
    value: Any = user_path(text) if field == "image" else text
    return Term(sign * weight, **{field: value})


def parse_day(name: str, text: str | None, *, last: bool = False) -> datetime.date | None:
    """A day as people give it: 2024-05-31, or the first or last of 2024-05 or 2024.

    Args:
        name: of the flag, for messages.
        text: None for none.
        last: the last day, where a month or a year is given.

    Raises:
        QueryError: it is no day.
    """
    if text is None:
        return None
    found = _DAY.fullmatch(text.strip())
    try:
        if not found:
            raise ValueError("it is no date")
        year, month, day = (int(part) if part else 0 for part in found.groups())
        month = month or (12 if last else 1)
        return datetime.date(year, month, day or (_length(year, month) if last else 1))
    except ValueError as error:
        raise QueryError(f"--{name}={text}: {error}; write 2024, 2024-05 or 2024-05-31") from error


def _length(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1] if 1 <= month <= 12 else 1


def _folder(given: str, index: Index) -> str:
    """A folder of the index, of its path in full or from the folder of pictures."""
    path = user_path(given)
    if path.is_absolute():
        path = Path(os.path.relpath(path.resolve(), index.root.resolve()))
    name = path.as_posix().strip("/")
    folders = index.pictures.columns.folders
    if name in ("", ".") or any(f == name or f.startswith(f"{name}/") for f in folders):
        return name
    tops = sorted({folder.split("/")[0] for folder in folders if folder})
    some = ", ".join(map(printable, tops[:10])) or "there are none"
    raise QueryError(f"--folder={given}: the index has no such folder; at its top are: {some}")


def as_json(index: Index, rank: int, hit: Hit) -> dict[str, Any]:
    """What a line of JSON says of a hit."""
    picture = hit.picture
    return {
        "rank": rank,
        "id": picture.id,
        "path": str(index.root / picture.path),
        "score": round(hit.score, 6),
        "probability": None if hit.probability is None else round(hit.probability, 6),
        "caption": picture.caption,
        "taken": None if picture.taken is None else picture.taken.isoformat(),
        "width": picture.width,
        "height": picture.height,
        "duplicates": [str(index.root / one.path) for one in hit.duplicates],
    }


def _print_paths(index: Index, hits: Sequence[Hit], end: bytes) -> None:
    sys.stdout.flush()
    for hit in hits:  # as the file system has them, whatever the encoding
        os.write(sys.stdout.fileno(), os.fsencode(index.root / hit.picture.path) + end)


def _print_table(hits: Sequence[Hit]) -> None:
    matched = any(hit.probability is not None for hit in hits)
    print(f"{'score':>7}{'   match' if matched else ''}  picture")
    for hit in hits:
        match = "" if not matched else f"{_percent(hit.probability):>8}"
        alike = f"  (and {len(hit.duplicates)} alike)" if hit.duplicates else ""
        caption = f"  {_one_line(hit.picture.caption)[:60]}" if hit.picture.caption else ""
        print(f"{hit.score:7.3f}{match}  {_one_line(hit.picture.path)}{alike}{caption}")


def _percent(probability: float | None) -> str:
    return "-" if probability is None else f"{100 * probability:.1f} %"


def _one_line(text: str) -> str:
    shown = (c if c.isprintable() else repr(c)[1:-1] for c in printable(text))
    return "".join(shown)


def _tell(index: Index, searcher: "Searcher", query: Query, found: int) -> None:
    """What the person should know beside the answer."""
    if not found:
        dated = int((index.pictures.columns.taken > 0).sum())
        print(
            f"note: none of {len(index):,} pictures is left by --folder, --since and --until;"
            f" {dated:,} have the day they were taken",
            file=sys.stderr,
        )
    for text in searcher.cut_texts(query):
        print(
            f"note: the text of {len(text.split())} words is longer than the"
            f" {searcher.model.text_length} tokens that the model reads; its end did not count",
            file=sys.stderr,
        )
    if index.unfinished:
        print(
            f"note: {index.folder} is being renewed, or that was stopped; give its index command"
            " again",
            file=sys.stderr,
        )
