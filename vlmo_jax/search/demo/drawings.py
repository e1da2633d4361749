"""The drawings of an artist whom the model has never seen, as picture files with captions."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from vlmo_jax.datasets.emoji import GROUPS, UNSEEN_ARTIST
from vlmo_jax.datasets.records import Record
from vlmo_jax.datasets.sources import EMBEDDED, EMBEDDED_PREFIX, open_source

PICTURES, CAPTIONS = "pictures", "captions.jsonl"


def write_drawings(folder: Path) -> int:
    """Writes the drawings, a folder for each group of them; what is there already stays.

    Args:
        folder: made if missing; gets the folder PICTURES and the file CAPTIONS.

    Returns:
        How many there are.
    """
    lines = []
    for path, record in _named(_group_of_name()):
        file = folder / PICTURES / path
        if not (file.exists() and file.read_bytes() == record.image):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(record.image)
        lines.append(json.dumps({"image": path, "text": record.texts[0]}))
    (folder / CAPTIONS).write_text("".join(f"{line}\n" for line in lines))
    return len(lines)


def _named(groups: dict[str, str]) -> Iterator[tuple[str, Record]]:
    """The path of each drawing from the folder of pictures, by its name."""
    taken = set()
    for record in open_source(f"{EMBEDDED_PREFIX}emoji", UNSEEN_ARTIST):
        name = record.texts[0]
        words = re.sub(r"\W+", "_", name).strip("_")
        path = f"{groups.get(name, 'others')}/{words}.webp"
        if path in taken:
            path = f"{groups.get(name, 'others')}/{words}_{record.image_id.split('/')[-1]}.webp"
        taken.add(path)
        yield path, record


def _group_of_name() -> dict[str, str]:
    groups = json.loads((EMBEDDED["emoji"] / GROUPS).read_text())
    return {
        name: group
        for group, subgroups in groups.items()
        for names in subgroups.values()
        for name in names
    }
