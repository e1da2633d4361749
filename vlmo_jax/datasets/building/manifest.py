"""manifest.json of a data set: where it comes from, what is in it, and by what its files are known
again.
"""

import collections
import configparser
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.datasets.building.plan import Plan, code_digest
from vlmo_jax.datasets.building.shards import SplitShards
from vlmo_jax.datasets.building.units import file_digest
from vlmo_jax.datasets.readers.protocol import Reader

NAME = "manifest.json"
_ROOT = Path(__file__).parents[3]  # of a checkout
_MOST_REASONS = 20
# Paths and numbers in a reason, which differ from record to record.
_NAMES = re.compile(r"\S*[\d/]\S*?(?=[:;,.]?(?:\s|$))")


def make_manifest(
    reader: Reader,
    plan: Plan,
    source: Path,
    splits: Mapping[str, SplitShards],
    files: Mapping[str, Sequence[Path]],
    left_out: Mapping[str, str],
    build: Mapping[str, Any],
) -> dict[str, Any]:
    """Gathers what stands in manifest.json: plain JSON values, the same for the same build.

    Args:
        reader: that has listed its entries.
        plan: of the build.
        source: folder of the download.
        splits: what was written.
        files: {split: where its shards lie now}.
        left_out: {record or name: why}.
        build: how it was asked for.

    Returns:
        The manifest.
    """
    reasons = collections.Counter(_NAMES.sub("...", why) for why in left_out.values())
    shown = dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:_MOST_REASONS])
    return {
        **build,
        "description": reader.description,
        "license": reader.license,
        "versions": {name: _version(name) for name in ("vlmo-jax", "tensorflow-datasets")}
        | {"code": code_digest(reader)},
        "sources": [
            {
                "path": _relative(Path(file.path), source),
                "bytes": file.num_bytes,
                "sha256": file.sha256,
            }
            for file in plan.sources
        ],
        "splits": _facts(reader, splits, files),
        "left_out": {
            "total": len(left_out),
            "reasons": shown,
            "for other reasons": len(left_out) - sum(shown.values()),
        },
    }


def _facts(
    reader: Reader, splits: Mapping[str, SplitShards], files: Mapping[str, Sequence[Path]]
) -> dict[str, Any]:
    """What is told of each split; arguments as of `make_manifest`."""
    found = reader.counts()
    written = collections.defaultdict(list, {name: split.shards for name, split in splits.items()})
    return {
        split: {
            "records": sum(shard.records for shard in written[split]),
            "found": found.get(split, {}),
            "published": dict(reader.published.get(split, {})),
            "shards": [
                {"file": path.name, "records": shard.records, "sha256": shard.sha256}
                for path, shard in zip(files.get(split, ()), written[split], strict=True)
            ],
        }
        # Splits that should be there, too, and of which no record is.
        for split in dict.fromkeys([*splits, *found, *reader.published])
    }


def _version(package: str) -> str:
    """The version of a package; of a checkout, which is not installed, that of its setup.cfg."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        checkout = configparser.ConfigParser()
        checkout.read(_ROOT / "setup.cfg")
        own = dict(checkout["metadata"]) if checkout.has_section("metadata") else {}
        return own["version"] if own.get("name") == package else "not installed"


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def differing_files(folder: Path) -> list[tuple[str, str]]:
    """Compares the shards of a data set with its manifest.

    Args:
        folder: of the data set.

    Returns:
        [(file, what is wrong with it)]; empty where all is well or there is no manifest.
    """
    path = folder / NAME
    if not path.is_file():
        return []
    try:
        splits = json.loads(path.read_bytes())["splits"]
        noted = {s["file"]: s["sha256"] for split in splits.values() for s in split["shards"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [(NAME, f"it cannot be read: {type(error).__name__}: {error}")]
    wrong = []
    for name, sha256 in noted.items():
        if not (folder / name).is_file():
            wrong.append((name, f"{NAME} names it, and it is missing"))
        elif file_digest(folder / name) != sha256:
            wrong.append((name, f"it is not the file that was built: its hash is not {NAME}'s"))
    return wrong
