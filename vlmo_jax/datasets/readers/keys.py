"""What captions files call the image, its captions, its keywords and its split."""

import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

from vlmo_jax.datasets.errors import CaptionsError

EXAMPLE = (
    'lines such as {"image": "cat.jpg", "text": "a cat on a mat"}, or a header line such as'
    " image,text"
)
KEYS = {
    "image": (
        "file_name",
        "filename",
        "image_path",
        "filepath",
        "path",
        "file",
        "image_name",
        "image",
        "img",
        "img_path",
        "image_file",
        "image_id",
        "img_id",
        "name",
    ),
    "text": (
        "texts",
        "captions",
        "sentences",
        "text",
        "caption",
        "sentence",
        "comments",
        "comment",
        "descriptions",
        "description",
        "alt_text",
        "title",
    ),
    "keywords": ("keywords", "tags"),
    "split": ("split",),
}


def normalize_key(key: object) -> str:
    """A key or the head of a column, without case, blanks and marks: "Image Path" -> image_path."""
    return re.sub(r"[\W_]+", "_", str(key).strip().lower()).strip("_")


def find_key(keys: Iterable[str], kind: str) -> str | None:
    """The first of `KEYS[kind]` that is among normalized keys; underscores do not matter."""
    squashed = {key.replace("_", ""): key for key in reversed(list(keys))}
    wanted = (name.replace("_", "") for name in KEYS[kind])
    return next((squashed[name] for name in wanted if name in squashed), None)


def numbered_keys(keys: Iterable[str], kind: str) -> list[str]:
    """Those of normalized keys that are a name of `KEYS[kind]` with a number, by their number."""
    names = {name.replace("_", "") for name in KEYS[kind]}
    found = []
    for key in keys:
        parts = re.fullmatch(r"(.*?)(\d+)", key.replace("_", ""))
        if parts and parts[1] in names:
            found.append((int(parts[2]), key))
    return [key for _, key in sorted(found)]


def refuse_keys(where: str, keys: Sequence[str], kind: str) -> NoReturn:
    """Raises CaptionsError: none of the keys says the image, or the text."""
    raise CaptionsError(
        f"{where} has the keys {', '.join(keys)}, of which none says the {kind}; "
        f"call it one of {', '.join(KEYS[kind])}"
    )
