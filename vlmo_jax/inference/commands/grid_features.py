"""Grid features in records of regions: python -m vlmo_jax.grid_features SOURCE OUT --model=DIR

    python -m vlmo_jax.grid_features emoji grid --model=runs/stage1
    python -m vlmo_jax.grid_features coco grid_of_coco --model=beit --dtype=float16

SOURCE is a data set of captioned images, OUT becomes one of their regions with all of its splits:
for each patch of the model's grid its state after the last norm, and its box. Any VLMo or BEiT will
do, trained here or converted from others. configs/vse_infinity.py:grid and :tiny_grid train on
them.

grid_features.json in OUT says which model they are of, with the digest of its parameters. OUT is
there whole or not at all.
"""

import argparse
import json
from collections.abc import Sequence

from vlmo_jax.commands.paths import user_path

GRID_FILE = "grid_features.json"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.grid_features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="data set of images with captions")
    parser.add_argument("out", metavar="OUT", type=user_path, help="folder to make")
    parser.add_argument("--model", required=True, metavar="DIR", help="work folder or checkpoint")
    parser.add_argument("--split", help="of SOURCE (default: all)")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--batch_size", type=int, default=64, metavar="N")
    parser.add_argument("--overwrite", action="store_true", help="replace what is at OUT")
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch_size={args.batch_size} must be 1 or more")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the features of what the command line names."""
    args = parse(argv)
    # Only now, so that --help need not wait for them.
    import numpy as np

    from vlmo_jax.datasets import open_source, records
    from vlmo_jax.datasets.errors import DataError
    from vlmo_jax.datasets.progress import RecordBar
    from vlmo_jax.datasets.sources import split_sizes
    from vlmo_jax.datasets.writer import DatasetWriter
    from vlmo_jax.inference.grid import GridEncoder

    sizes = split_sizes(args.source)
    if args.split and args.split not in sizes:
        raise DataError(f"--split={args.split}: {args.source} has {', '.join(sizes)}")
    splits = [args.split] if args.split else list(sizes)
    sources = {split: open_source(args.source, split) for split in splits}
    encoder = GridEncoder(args.model)
    kind = records.regions_kind(encoder.width, dtype=getattr(np, args.dtype))
    facts = {"source": args.source, **encoder.facts(), "dtype": args.dtype}
    total = sum(map(len, sources.values()))
    with (
        DatasetWriter(
            args.out,
            kind=kind,
            description=f"Features of a grid of {encoder.grid} x {encoder.grid} patches of"
            f" {args.source}, by {facts['checkpoint']} ({encoder.fingerprint[:12]}).",
            overwrite=args.overwrite,
        ) as out,
        RecordBar(total) as bar,
    ):
        for split, source in sources.items():
            for record in encoder.records(source, args.batch_size):
                out.write(split, record)
                bar.update(1)
        out.add_file(GRID_FILE, json.dumps(facts, indent=1) + "\n")
    print(
        f"Wrote {total:,} records of {encoder.grid**2} regions of {encoder.width} numbers to"
        f" {args.out}; train on them with --config.data.source={args.out}"
        f" --config.model.num_regions={encoder.grid**2}"
        f" --config.model.region_width={encoder.width}"
    )
