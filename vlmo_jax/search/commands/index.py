"""Makes an index of a folder of pictures, or brings it up to date.

    python -m vlmo_jax.search index ~/Pictures my_index --model=runs/stage3     # the first time
    python -m vlmo_jax.search index ~/Pictures my_index                         # what has changed
    python -m vlmo_jax.search index ~/Pictures my_index --exclude='*.gif' --exclude=drafts
    python -m vlmo_jax.search index ~/Pictures my_index --captions=captions.csv
    python -m vlmo_jax.search index ~/Pictures my_index --store=http://localhost:6333/pictures

PICTURES is gone through with all folders in it; hidden files, and files that are called as no
picture is, are left out and counted. INDEX gets the vectors, small pictures, paths, the day of the
camera, and captions: those of --captions, of a text file beside a picture (a.txt or a.jpg.txt), or
of the picture itself (XMP, IPTC, EXIF). The pictures stay where they are, and nothing is written
among them, unless INDEX itself is; then it is left out.

The next call reads only what is new or has changed by size or time, encodes only contents that the
index does not know, and forgets what is gone. The model need not be given again. Readers of the
old index go on with it; the new one is put in place at once, when it is whole. Stopped at any
moment, the same command goes on where it was.

With --store, the vectors are put into a collection of Qdrant, too, which `query --store` searches:
for what one machine cannot hold or answer; docs/SEARCH.md says how a server is started.

What cannot be used, such as HEIC and damaged files, is listed in INDEX/skipped.tsv with the reason.
"""

import argparse
import contextlib
import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmo_jax.commands.paths import user_path
from vlmo_jax.commands.signals import end_at_once, watching
from vlmo_jax.search.about import DTYPES, NAME, read_about
from vlmo_jax.search.demo.bundled import model_folder

if TYPE_CHECKING:
    from vlmo_jax.search.building.update import Summary
    from vlmo_jax.search.engine.qdrant import QdrantStore
    from vlmo_jax.search.engine.stored_index import Stored


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.search index",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pictures", metavar="PICTURES", type=user_path, help="their folder")
    parser.add_argument("index", metavar="INDEX", type=user_path, help="folder to make or renew")
    parser.add_argument(
        "--model",
        metavar="DIR",
        type=model_folder,
        help="as vlmo_jax.load takes it; demo: the small one that comes along",
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument("--captions", metavar="FILE", type=user_path, help="JSON lines, CSV or TSV")
    parser.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="names or paths to leave out, such as '*.gif', drafts or '2019/raw/*'; repeat it",
    )
    parser.add_argument("--dtype", choices=DTYPES, help="of the vectors (default: float32)")
    parser.add_argument("--store", metavar="URL", help="of a collection of Qdrant")
    parser.add_argument("--restart", action="store_true", help="make it anew, with any model")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Makes the index that the command line names, and says what became of the pictures."""
    args = parse(argv)
    with contextlib.ExitStack() as stack:
        store = None
        if args.store:  # first, as what is wrong with it would be told too late
            from vlmo_jax.search.engine.qdrant import open_store

            store = stack.enter_context(contextlib.closing(open_store(args.store)))
        summary = _update(args)
        stored = None if store is None else _store(args, store)
    if args.json:
        told = {"index": str(args.index), **dataclasses.asdict(summary)}
        print(json.dumps(told if stored is None else {**told, "stored": stored._asdict()}))
        return
    _tell(args, summary)
    quoted = shlex.quote(str(args.index))
    if stored is None:
        print(f'Search it: python -m vlmo_jax.search query {quoted} "a red heart"')
        print(f"In a page: python -m vlmo_jax.search serve {quoted} --open")
        return
    print(
        f"{args.store}: {stored.rows:,} vectors, {stored.added:,} sent, {stored.removed:,} removed"
    )
    also = shlex.quote(f"--store={args.store}")
    print(f'Search it: python -m vlmo_jax.search query {quoted} "a red heart" {also}')


def _update(args: argparse.Namespace) -> "Summary":
    # Only now, so that --help need not wait for them.
    from vlmo_jax.datasets.progress import RecordBar
    from vlmo_jax.search.building.update import update_index
    from vlmo_jax.search.building.walk import require_pictures
    from vlmo_jax.search.commands.models import load_model

    require_pictures(args.pictures)
    about = read_about(args.index) if (args.index / NAME).exists() and not args.restart else None
    model = load_model(args.model, about, args.tokenizer)
    bar, before = None, 0

    def tell(done: int, total: int) -> None:
        nonlocal bar, before
        bar = bar or stack.enter_context(RecordBar(total, unit="pictures"))
        bar.update(done - before)
        before = done

    with contextlib.ExitStack() as stack:
        stack.enter_context(watching(_end))
        return update_index(
            args.pictures,
            args.index,
            model,
            args.model or (about.model if about else ""),
            captions_file=args.captions,
            exclude=args.exclude,
            dtype=args.dtype,
            restart=args.restart,
            tell=tell,
        )


def _end(number: int) -> None:
    end_at_once(number, "the same command goes on where it was")


def _store(args: argparse.Namespace, store: "QdrantStore") -> "Stored":
    from vlmo_jax.search.engine.stored_index import store_index
    from vlmo_jax.search.index import open_index

    with open_index(args.index) as index:
        return store_index(store, index)


def _tell(args: argparse.Namespace, summary: "Summary") -> None:
    from vlmo_jax.datasets.left_out import summarize_left_out
    from vlmo_jax.search.index import open_index

    print(
        f"{args.index}: {summary.rows:,} pictures ({summary.new:,} new, {summary.changed:,} changed"
        f", {summary.removed:,} gone; {summary.encoded:,} encoded in {summary.seconds:,.0f} s)"
    )
    left = [
        f"{count:,} {what}"
        for count, what in (
            (summary.others, "other files"),
            (summary.hidden, "hidden"),
            (summary.excluded, "excluded"),
        )
        if count
    ]
    if left:
        print(f"Left out: {', '.join(left)}")
    if summary.without_caption:
        print(f"{summary.without_caption:,} names in {args.captions} lead to no picture")
    if summary.skipped:
        print(f"{summary.skipped:,} could not be used (listed in {args.index / 'skipped.tsv'}):")
        with open_index(args.index) as index:
            print(summarize_left_out(dict(index.pictures.skipped())))
