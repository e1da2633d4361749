"""Builds of the small format."""

import json

from vlmo_jax.datasets import build

FORMAT = "tests.datasets.building.small_reader:SmallReader"


def write_rows(folder, rows):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def build_small(download, out, *flags, form=FORMAT):
    """Builds with units of four records, in one process unless the flags say otherwise."""
    one = [] if "--engine=beam" in flags else ["--workers=1"]
    build.main([str(download), str(out), f"--format={form}", "--unit_records=4", *one, *flags])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
