"""From samples to entries, for the readers of tars, folders and tables of them."""

import pathlib
from collections.abc import Callable, Iterable, Iterator

from vlmo_jax.datasets import records
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.places import Place, load_image
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError
from vlmo_jax.datasets.readers.samples import Sample, captions_of
from vlmo_jax.datasets.readers.split_names import split_of
from vlmo_jax.datasets.readers.tars import SUFFIX

CaptionsOf = Callable[[str], list[str]]


def list_samples(
    root: pathlib.Path,
    shard: str,
    samples: Iterable[Sample],
    findings: Findings,
    *,
    captions: bool,
    otherwise: CaptionsOf = lambda key: [],
) -> Iterator[Entry]:
    """Lists the samples that have an image and, where captions are wanted, one that is not blank.

    Args:
        root: folder of the download.
        shard: path of the tar or folder; without ".tar" it begins the ids.
        samples: in the order of the records.
        findings: where they are counted, and named where they are left out.
        captions: whether they are read.
        otherwise: function of a key that gives the captions of a sample that has no file of them.

    Yields:
        An entry a sample.
    """
    for sample in samples:
        record_id = f"{shard.removesuffix(SUFFIX)}/{sample.key}"
        split = split_of(f"{shard}/{sample.key}")
        if not sample.images:
            findings.left_out[record_id] = "it has no image"
            continue
        image = next(iter(sample.images.values()))
        for end in list(sample.images)[1:]:
            findings.left_out[f"{record_id}.{end}"] = "a second image of its sample"
        if not captions:
            findings.add(split, {"images": 1})
            yield Entry(split, record_id, image)
            continue
        try:
            read = captions_of(root, sample)
            read = otherwise(sample.key) if read is None else read
        except LeftOutError as error:
            findings.left_out[record_id] = str(error)
            continue
        entry = captioned(split, record_id, image, read, findings)
        if entry is not None:
            yield entry


def captioned(
    split: str, record_id: str, image: Place, texts: Iterable[str], findings: Findings
) -> Entry | None:
    """The entry of an image with captions, of which blank ones are dropped and each is kept once,
    both counted; None where none is left.
    """
    texts = list(texts)
    kept = tuple(dict.fromkeys(filter(None, texts)))
    blank = texts.count("")
    repeated = len(texts) - blank - len(kept)
    findings.add(split, {"blank captions": blank, "repeated captions": repeated})
    if not kept:
        findings.left_out[record_id] = "no caption"
        return None
    findings.add(split, {"images": 1, "captions": len(kept)})
    return Entry(split, record_id, image, kept)


def load_record(root: pathlib.Path, entry: Entry) -> records.Record:
    """The record of an entry whose place is a `Place` and whose content its captions.

    Raises:
        LeftOutError: its image cannot be used.
    """
    data = load_image(root, entry.place)
    return records.Record(data, entry.content or (), (), entry.record_id)
