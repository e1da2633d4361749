"""Vectors of many images or texts, in a folder: python -m vlmo_jax.encode INPUT OUT --model=DIR

    python -m vlmo_jax.encode PICTURES vectors --model=runs/stage3
    python -m vlmo_jax.encode list.txt vectors --model=runs/stage3     # a path a line
    python -m vlmo_jax.encode list.jsonl vectors --model=runs/stage3   # {"image": PATH, "id": ...}
    python -m vlmo_jax.encode my_data vectors --model=runs/stage3 --split=validation
    python -m vlmo_jax.encode fetched vectors --model=runs/stage3 --format=img2dataset_images
    python -m vlmo_jax.encode words.txt vectors --model=runs/stage3 --texts   # a text a line
    find . -name '*.jpg' | python -m vlmo_jax.encode - vectors --model=runs/stage3

A folder is gone through with all folders and tars in it; nothing is unpacked. OUT gets, for every
10,000 inputs, part-00000.npy with a row for each that could be used, and part-00000.jsonl, whose
line n says what row n is: {"id": ...}, of a data set also its place, "input"; part-00000.parquet
is the same as a table. skipped.jsonl lists all others with the reason, about.json the model, the
size of the vectors and the counts. Vectors have length 1: products are similarities.

Stopped at any moment, the same command goes on with the parts that are missing; it refuses where
the model, a setting or the inputs are not the same. Memory does not grow with the number of inputs.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path

if TYPE_CHECKING:
    from vlmo_jax.inference.inputs import BrokenInputError
    from vlmo_jax.inference.model import Model
    from vlmo_jax.inference.stored import Part

PART_INPUTS = 10_000


class NothingEncodedError(UserError, ValueError):
    """No input could be used."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.encode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", help="folder, list, data set or - for a list on standard input")
    parser.add_argument("out", metavar="OUT", type=user_path, help="folder to make")
    parser.add_argument("--model", required=True, metavar="DIR", help="as vlmo_jax.load takes it")
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument("--texts", action="store_true", help="encode texts, not images")
    parser.add_argument("--split", help="of a data set (default: all)")
    parser.add_argument("--format", metavar="NAME", help="of `vlmo_jax.datasets.build --formats`")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--part_inputs", type=int, default=PART_INPUTS, metavar="N")
    parser.add_argument("--batch_size", type=int, metavar="N", help="default: by the device")
    parser.add_argument("--restart", action="store_true", help="make all parts anew")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    args = parser.parse_args(argv)
    if args.part_inputs < 1:
        parser.error(f"--part_inputs={args.part_inputs} must be 1 or more")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Encodes what the command line names, and says what was written."""
    args = parse(argv)
    # Only now, so that --help need not wait for them.
    from vlmo_jax.inference.commands.inputs import Inputs
    from vlmo_jax.inference.loading import load
    from vlmo_jax.inference.stored import Store

    model = load(args.model, tokenizer=args.tokenizer, batch_size=args.batch_size)
    inputs, started, done = Inputs(args), time.perf_counter(), 0
    store = Store(args.out, _about(args, model), restart=args.restart)

    def told(number: int, part: "Part | None") -> None:
        nonlocal done
        done += len(part.ids) if part else 0
        seconds = time.perf_counter() - started
        line = {"part": number - 1, "made": bool(part), "rows_per_second": round(done / seconds, 1)}
        if args.json:
            print(json.dumps(line), flush=True)
        else:
            how = f"{done / seconds:,.1f} rows a second" if part else "was there"
            print(f"part {number - 1}: {how}", flush=True)

    counts = store.fill(inputs, args.part_inputs, lambda chunk: _encode(chunk, model, args), told)
    skipped = store.finish(counts, inputs.left_out)
    if not counts.rows:
        raise NothingEncodedError(
            f"{args.input}: none of its {skipped} inputs could be encoded; {args.out}/skipped.jsonl"
            " says why"
        )
    result = {"out": str(args.out), "rows": counts.rows, "skipped": skipped, "parts": counts.parts}
    if args.json:
        print(json.dumps(result))
    else:
        listed = (
            f", {skipped:,} skipped (listed in {args.out / 'skipped.jsonl'})" if skipped else ""
        )
        print(f"Wrote {counts.rows:,} vectors in {counts.parts:,} parts to {args.out}{listed}")


def _about(args: argparse.Namespace, model: "Model") -> dict[str, Any]:
    return {
        "what": "texts" if args.texts else "images",
        "input": args.input,
        "split": args.split,
        "format": args.format,
        "checkpoint": "/".join(model.name.parts[-3:]),
        "fingerprint": model.fingerprint,
        "preprocessing": model.preprocessing,
        "text_length": model.text_length,
        "dimension": (model.encode_text if args.texts else model.encode_image)([]).shape[1],
        "dtype": args.dtype,
        "part_inputs": args.part_inputs,
    }


def _encode(chunk: list[Any], model: "Model", args: argparse.Namespace) -> "Part":
    from vlmo_jax.inference.stored import Part

    skipped: dict[int, BrokenInputError] = {}
    encode = model.encode_text if args.texts else model.encode_image
    vectors = encode(
        [one.item for one in chunk], on_error=lambda error: skipped.update({error.position: error})
    )
    kept = [row for row in range(len(chunk)) if row not in skipped]
    return Part(
        vectors[kept].astype(args.dtype),
        [getattr(chunk[row].item, "record_id", chunk[row].name) for row in kept],
        [chunk[row].name for row in kept],
        [(chunk[row].name, error.reason) for row, error in sorted(skipped.items())],
    )
