"""Looks whether an index is sound, and says what it is of.

    python -m vlmo_jax.search check my_index

The files are read whole, rows are counted, and of up to 1,000 pictures each must find itself; some
are encoded again and must have the vectors that they had. Pictures that could not be used are
listed at the end. The exit status is 1 if anything is wrong.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.left_out import left_out_table
from vlmo_jax.search.demo.bundled import model_folder
from vlmo_jax.search.index import open_index


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.search check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("index", metavar="INDEX", type=user_path, help="folder of the index")
    parser.add_argument(
        "--model", metavar="DIR", type=model_folder, help="where the model is now, if it was moved"
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Checks the index that the command line names."""
    args = parse(argv)
    with open_index(args.index) as index:
        # Only now, so that --help and what cannot be need not wait for them.
        from vlmo_jax.search.commands.models import load_model
        from vlmo_jax.search.engine.exact import ExactSearch
        from vlmo_jax.search.queries import Searcher
        from vlmo_jax.search.soundness import check_index

        model, about = load_model(args.model, index.about, args.tokenizer), index.about
        engine = ExactSearch(index.vectors)
        Searcher(index, model, engine)  # refuses another model
        lines = []
        for line in check_index(index, model, engine):
            lines.append(line)
            if not args.json:
                print(f"ok: {line}", flush=True)
        skipped = dict(index.pictures.skipped())
        if args.json:
            print(json.dumps({**dataclasses.asdict(about), "ok": lines, "skipped_files": skipped}))
            return
        print(f"{args.index} is sound: {about.pictures}, by {about.model}, made {about.made}")
        if index.unfinished:
            print("A renewal of it was stopped, or is under way: give its index command again.")
        if skipped:
            print(f"{len(skipped):,} could not be used:\n{left_out_table(skipped)}", end="")
