"""Named retrieval protocols: which captions of a split are used, and how large the split must be.

Recall depends on the number of candidates as much as on the model, so that each result states
what it was measured on.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import Record


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What a retrieval result is measured on.

    Attributes:
        description: the words that are printed with every result.
        captions_per_image: the first so many captions of an image are used; None: all.
        num_images: the split must have so many; None: any number.
        num_texts: so many captions must be used of it; None: any number.
        folds: parts of the split, as it comes, that are searched alone; the result is their mean.
    """

    description: str
    captions_per_image: int | None = None
    num_images: int | None = None
    num_texts: int | None = None
    folds: int = 1


PROTOCOLS = {
    "all_captions": Protocol("all captions of every image"),
    "first_caption": Protocol("the first caption of every image", captions_per_image=1),
    # VLMo, ViLT, BEiT-3, ALBEF
    "coco_karpathy_5k_all": Protocol(
        "COCO, Karpathy's test split, all 25,010 captions", num_images=5000, num_texts=25_010
    ),
    # VSE++, SCAN, VSE-infinity, CLIP_benchmark
    "coco_karpathy_5k": Protocol(
        "COCO, Karpathy's test split, the first 5 captions of every image", 5, 5000, 25_000
    ),
    "coco_karpathy_1k": Protocol(
        "COCO, Karpathy's test split, the first 5 captions of every image, mean of 5 folds of"
        " 1,000 images in a row",
        5,
        5000,
        25_000,
        folds=5,
    ),
    "flickr30k_karpathy_1k": Protocol(
        "Flickr30K, Karpathy's test split, 5 captions of every image", 5, 1000, 5000
    ),
}


class Captions(NamedTuple):
    """The captions of a split that a protocol uses.

    Attributes:
        image_ids: of all images.
        texts: the captions.
        text_image: [texts] int32, the row of the image of each.
    """

    image_ids: Sequence[str]
    texts: list[str]
    text_image: np.ndarray


def read_captions(source: Sequence[Record], protocol: str) -> Captions:
    """Reads all records of a split, and picks the captions that a protocol uses.

    Args:
        source: the records.
        protocol: a name in `PROTOCOLS`.

    Raises:
        ValueError: see `select_captions`; or there are no records.
    """
    if not len(source):
        raise ValueError("the split is empty; give one with records")
    records = (source[row] for row in range(len(source)))
    described = [(record.image_id, record.texts) for record in records]
    image_ids, captions = zip(*described, strict=True)
    return Captions(image_ids, *select_captions(protocol, image_ids, captions))


def select_captions(
    protocol: str, image_ids: Sequence[str], captions: Sequence[Sequence[str]]
) -> tuple[list[str], np.ndarray]:
    """Picks the captions that a protocol uses.

    Args:
        protocol: a name in `PROTOCOLS`.
        image_ids: [images], for messages.
        captions: [images], the captions of each image.

    Returns:
        (texts, text_image): list of captions, and [texts] int32, the row of the image of each.

    Raises:
        ValueError: unknown protocol, wrong number of images or captions, or an image with too few.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is unknown; use one of {sorted(PROTOCOLS)}")
    wanted = PROTOCOLS[protocol]
    if wanted.num_images not in (None, len(captions)):
        raise ValueError(
            f"protocol={protocol!r} is about {wanted.num_images} images and this split has"
            f" {len(captions)}; use that split, or protocol='all_captions'"
        )
    texts: list[str] = []
    text_image: list[int] = []
    for row, (image_id, own) in enumerate(zip(image_ids, captions, strict=True)):
        used = own if wanted.captions_per_image is None else own[: wanted.captions_per_image]
        if len(used) < (wanted.captions_per_image or 1):
            raise ValueError(
                f"image {image_id!r} has {len(own)} captions and protocol={protocol!r} needs at"
                f" least {wanted.captions_per_image or 1}; give it captions, or leave it out of the"
                " split"
            )
        texts += used
        text_image += [row] * len(used)
    if wanted.num_texts not in (None, len(texts)):
        raise ValueError(
            f"protocol={protocol!r} is about {wanted.num_texts} captions and this split has"
            f" {len(texts)}; build the split from the official file, or use"
            " protocol='all_captions'"
        )
    return texts, np.array(text_image, np.int32)
