"""Measures how fast an index answers, with made-up vectors and a real model.

    python -m vlmo_jax.search measure --model=runs/stage3
    python -m vlmo_jax.search measure --model=runs/stage3 --pictures=1000000 --json

An index of that many pictures is made in a temporary folder: vectors at random, paths, days and
captions as people have them. Then it is opened and asked, as a server or a script would that stays:
the first question compiles, each further one is timed; the median counts.
"""

import argparse
import datetime
import hashlib
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmo_jax.search.about import DTYPES, Origin
from vlmo_jax.search.demo.bundled import model_folder

if TYPE_CHECKING:
    from vlmo_jax.search.questions import Query

_PART = 10_000  # pictures that are made together
_TIMES = 20


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.search measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR", type=model_folder, help="as of `index`"
    )
    parser.add_argument("--pictures", type=int, default=100_000, metavar="N")
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0])
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    args = parser.parse_args(argv)
    if args.pictures < 10:
        parser.error(f"--pictures={args.pictures} must be 10 or more")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the index that the command line asks for, and prints how fast it is."""
    args = parse(argv)
    from vlmo_jax.search.commands.models import load_model
    from vlmo_jax.search.index import open_index
    from vlmo_jax.search.origins import origin_of
    from vlmo_jax.search.queries import Query, Searcher, Term

    model = load_model(args.model, None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        _make(folder, origin_of(model, args.model), args.pictures, args.dtype)
        started = time.perf_counter()
        with open_index(folder) as index:
            searcher = Searcher(index, model)
            found = {"open": time.perf_counter() - started}
            like = [Term(picture_id=index.pictures[7].id)]
            day = datetime.date(2015, 1, 1)
            asked: dict[str, Callable[[int], Query]] = {
                "text": lambda n: Query([Term(text=f"a red heart {n}")]),
                "more like this": lambda n: Query(like, top_k=20 + n % 5),
                "text in a folder, since a day": lambda n: Query(
                    [Term(text=f"{n} cats")], folder="2015", since=day
                ),
                "text, near copies grouped": lambda n: Query(
                    [Term(text=f"rain {n}")], top_k=50, group_duplicates=True
                ),
            }
            for name, make in asked.items():
                times = [_seconds(searcher, make(number)) for number in range(_TIMES + 1)]
                found[f"{name}: first"] = times[0]
                found[f"{name}: further"] = float(np.median(times[1:]))
    if args.json:
        print(json.dumps({"pictures": args.pictures, "dtype": args.dtype, "seconds": found}))
        return
    print(f"{args.pictures:,} pictures, vectors of {args.dtype}")
    for name, seconds in found.items():
        print(f"{1000 * seconds:10.1f} ms  {name}")


def _seconds(searcher: Any, query: "Query") -> float:
    started = time.perf_counter()
    searcher.search(query)
    return time.perf_counter() - started


def _make(folder: pathlib.Path, origin: Origin, count: int, dtype: str) -> None:
    """An index of made-up pictures."""
    from vlmo_jax.search.building.making import Facts, Making, Part
    from vlmo_jax.search.building.prepare import Seen
    from vlmo_jax.search.building.publish import Contents, Known, Row, publish

    rng, making = np.random.default_rng(0), Making(folder, origin, restart=True)
    rows: list[Row] = []
    known: dict[bytes, Known] = {}
    for begin in range(0, count, _PART):
        numbers = range(begin, min(count, begin + _PART))
        vectors = rng.normal(size=(len(numbers), origin.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        seen, facts = [], []
        for number in numbers:
            day = datetime.date(2010, 1, 1) + datetime.timedelta(days=number % 4000)
            path = f"{day.year}/{day:%m}/IMG_{number:07d}.jpg"
            digest = hashlib.sha256(path.encode()).digest()
            seen.append(Seen(path, 3_000_000, 0, True, digest))
            facts.append(Facts(4000, 3000, day.isoformat(), None))
            rows.append(Row(path, None, 3_000_000, 0, True, digest, f"Holiday number {number}"))
        part = making.add(Part(vectors, [b"-"] * len(seen), seen, facts))
        known |= {one.digest: Known(facts[n], part, n) for n, one in enumerate(seen)}
    contents = Contents(sorted(rows, key=lambda row: row.path), known, {}, None, making)
    publish(folder, contents, origin=origin, pictures=folder, dtype=dtype, decoder="")
    making.remove()
