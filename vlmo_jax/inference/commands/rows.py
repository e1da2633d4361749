"""What the commands match and answer share: pairs in JSON lines, asked some hundred at a time."""

import argparse
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.tables import printable
from vlmo_jax.inference.commands.lines import STDIN, read_objects

if TYPE_CHECKING:
    from vlmo_jax.inference.inputs import BrokenInputError
    from vlmo_jax.inference.model import Model

CHUNK = 512  # pairs that are asked together

Row = dict[str, Any]
# Of a model, images, texts and a function that is told of broken inputs: an answer a pair.
Ask = Callable[["Model", list[str], list[str], Callable[[Any], object]], Sequence[Any]]


def make_parser(name: str, documentation: str) -> argparse.ArgumentParser:
    """The command line of such a command.

    Args:
        name: of the command, below vlmo_jax.
        documentation: of it.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m vlmo_jax.{name}",
        description=documentation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pairs", help="file of JSON lines, or - for standard input")
    parser.add_argument("--model", required=True, metavar="DIR", help="as vlmo_jax.load takes it")
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument("--batch_size", type=int, metavar="N", help="default: by the device")
    parser.add_argument("--json", action="store_true", help="print JSON lines, not a table")
    return parser


def run(
    args: argparse.Namespace, field: str, ask: Ask, show: Callable[[Row], str], **files: Any
) -> None:
    """Reads pairs, asks a model, and prints a line for each, in their order.

    Args:
        args: of `make_parser`.
        field: of an object beside "image": that of the text.
        ask: gives what a line gets beside its own fields, a mapping a pair.
        show: the line of the table.
        files: further arguments of `vlmo_jax.load`.
    """
    from vlmo_jax.inference.loading import load

    model = load(
        args.model,
        tokenizer=args.tokenizer,
        batch_size=args.batch_size,
        show_progress=False,
        **files,
    )
    broken = total = 0
    for last, row in _asked(model, args.pairs, field, ask):
        total, broken = total + 1, broken + ("error" in row)
        if args.json:
            print(json.dumps(row), flush=last)
        elif "error" in row:
            about = "  ".join(dict.fromkeys((row["image"], row[field])))
            print(printable(f"{'error':>9}  {about}: {row['error']}"), flush=last)
        else:
            print(printable(show(row)), flush=last)
    if broken:
        unit = "images" if field == "image" else "pairs"
        print(f"{broken:,} of {total:,} {unit} could not be used", file=sys.stderr)


def _asked(model: "Model", path: str, field: str, ask: Ask) -> Iterator[tuple[bool, Row]]:
    """Each pair with its answer, and whether it is the last of those that were asked together."""
    folder = Path() if path == STDIN else user_path(path).parent
    rows = (row for _, row in read_objects(path, ("image", field)))
    while chunk := list(itertools.islice(rows, CHUNK)):
        errors: dict[int, str] = {}
        paths = [row["image"] for row in chunk]
        answers = ask(
            model,
            [path if "://" in path else str(folder / user_path(path)) for path in paths],
            [row[field] for row in chunk],
            functools.partial(_note, errors),
        )
        for number, (row, answer) in enumerate(zip(chunk, answers, strict=True)):
            last = number == len(chunk) - 1
            yield last, {**row, **({"error": errors[number]} if number in errors else answer)}


def _note(errors: dict[int, str], error: "BrokenInputError") -> None:
    errors[error.position] = error.reason
