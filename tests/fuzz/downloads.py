"""Annotations of official downloads, damaged at random.

What is read must be the same whatever the window of reading, be what was counted, and hold no blank
caption; images are there or left out by name.
"""

import collections
from unittest import mock

from tests.datasets.readers import downloads
from tests.fuzz.case import Case, WrongError
from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets import readers
from vlmo_jax.datasets.readers import json_lists
from vlmo_jax.datasets.readers.protocol import LeftOutError

# {name: an image of it, so that the folder of images is there}
IMAGES = {
    "annot_json": "images_train/0000/0000000",
    "cc3m": "images_train/0000/0000001.jpg",
    "coco_captions": "train2014/COCO_train2014_000000000009.jpg",
    "coco_karpathy": "val2014/COCO_val2014_000000391895.jpg",
    "flickr30k_karpathy": "flickr30k-images/1000092795.jpg",
    "nocaps": "val/0013ea2087020901.jpg",
    "sbu": "dataset/4385058960_b0f291553e.jpg",
    "visual_genome": "images/VG_100K/2.jpg",
}
OTHER_FOLDERS = ("images_val", "train2014", "val2014")
BITS = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"null",
        b"true",
        b"NaN",
    ),
    *(b"1e999", b"-", b"9" * 30, b'""', b"[]", b"{}", b" ", b"\n", b"\r", b"\t", b"\0", b"\xff"),
    *("\u2028".encode(), b"\xef\xbb\xbf"),
)


def draw(rng):
    """One Case."""
    name = str(rng.choice(list(IMAGES)))
    window = int(rng.choice([1, 5, 64]))
    seed = int(rng.integers(2**32))

    def run(folder):
        source = downloads.unpack(name, folder / "download", {IMAGES[name]: "JPEG"})
        for other in OTHER_FOLDERS:
            (source / other).mkdir(exist_ok=True)
        files = [p for p in sorted(source.rglob("*.*")) if p.suffix in (".json", ".tsv", ".txt")]
        path = files[seed % len(files)]
        path.write_bytes(_damaged(path.read_bytes(), rng))
        with mock.patch.object(json_lists, "CHUNK", window):
            found = _outcome(name, source)
        if _outcome(name, source) != found:
            raise WrongError(f"a window of {window} characters reads something else")
        if isinstance(found, UserError):
            raise found

    return Case(f"{name} with a damaged file, read by {window} characters", run)


def _damaged(data, rng):
    for _ in range(rng.integers(1, 4)):
        start = int(rng.integers(len(data) + 1))
        end = start + int(rng.choice([0, 0, 1, 2, 8, 30]))
        way = rng.choice(["cut", "taken out", "replaced", "replaced"])
        middle = BITS[rng.integers(len(BITS))] if way == "replaced" else b""
        data = data[:start] + middle + (b"" if way == "cut" else data[end:])
    return data


class _RefusedError(UserError):
    """Equal to any other: what is found wrong first may depend on the window."""

    def __eq__(self, other):
        return isinstance(other, _RefusedError)

    __hash__ = None


def _outcome(name, source):
    """What is read: entries and what was left out, or why nothing."""
    reader = readers.make_reader(name, source)
    try:
        entries = list(reader.entries())
    except UserError as error:
        return _RefusedError(*error.args)
    images = collections.Counter(entry.split for entry in entries)
    captions = collections.Counter()
    for entry in entries:
        captions[entry.split] += len(entry.content)
        if not all(text and text == text.strip() for text in entry.content):
            raise WrongError(f"{entry.record_id} has a blank caption, or blanks at its end")
        try:
            reader.load(entry)
        except LeftOutError as error:
            if not str(error):
                raise WrongError(f"{entry.record_id} is left out without a reason") from error
    for split, counts in reader.counts().items():
        if (counts.get("images", 0), counts.get("captions", 0)) != (images[split], captions[split]):
            raise WrongError(f"{split} has {images[split]} images, not {counts}")
    return entries, reader.left_out()
