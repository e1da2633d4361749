"""Kinds of records: what a record is in memory, and how it lies on disk.

A kind is declared once, as data: the dataclass of its records, the TFDS feature of each of its
fields, and a few words. Writing and reading follow from the features. A new kind is a dataclass, a
`RecordKind` and its entry in `KINDS`.
"""

import dataclasses
import functools

import numpy as np
import tensorflow_datasets as tfds

from vlmo_jax.datasets.record_kind import RecordKind

Features = tfds.features.FeaturesDict
METADATA = "metadata.json"
MARKER = "record_kind"  # in a data set's metadata.json, which kind of record it holds


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with its captions.

    Attributes:
        image: the encoded file, byte for byte, in one of `images.FORMATS`.
        texts: captions of the image, in the order they were given.
        keywords: tags of the image, often none.
        image_id: a name that no other image of the data set has.
    """

    image: bytes
    texts: tuple[str, ...]
    keywords: tuple[str, ...]
    image_id: str


@dataclasses.dataclass(frozen=True)
class TextRecord:
    """One passage of plain text: a document, or a part of a long one.

    Attributes:
        text: white space is single blanks, none at its ends.
        text_id: where it comes from, such as "wordnet:12", or "book:3.1" for the second part of a
            long document.
    """

    text: str
    text_id: str


@dataclasses.dataclass(frozen=True)
class QuestionsRecord:
    """One image with questions about it, each of which is an example.

    Attributes:
        image: the encoded file, byte for byte.
        image_id: a name that no other image of the data set has.
        questions: [Q], in the order they were given.
        question_ids: [Q], each unique in the data set; numbers are written as texts.
        answers: what people answered, as they wrote it, those of a question beside each other.
        num_answers: [Q] int32, how many of `answers` each question has: 10 in VQAv2, 0 where they
            are not public.
        main_answers: [Q], the one that most gave, "" where it is not known.
        answer_types: [Q], such as "yes/no", "" where it is not known.
        question_types: [Q], such as "how many", "" where it is not known.
    """

    image: bytes
    image_id: str
    questions: tuple[str, ...]
    question_ids: tuple[str, ...]
    answers: tuple[str, ...]
    num_answers: np.ndarray
    main_answers: tuple[str, ...]
    answer_types: tuple[str, ...]
    question_types: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class StatementRecord:
    """A statement about two images, true or false.

    Attributes:
        image_0, image_1: the encoded files, left and right, byte for byte.
        statement: the text.
        label: scalar int32, 1 true, 0 false, -1 not known.
        statement_id: unique in the data set.
        group_id: statements with the same one are consistent together; "" where there are none.
    """

    image_0: bytes
    image_1: bytes
    statement: str
    label: np.ndarray
    statement_id: str
    group_id: str


@dataclasses.dataclass(frozen=True)
class RegionsRecord:
    """The regions that a detector, or a grid, found in one image, with its captions.

    Attributes:
        features: [R, F] float32; on disk float16 where the data set was built so.
        boxes: [R, 4] float32, x1 y1 x2 y2 in pixels; [0, 4] where they are not known.
        width, height: scalars int32, of the image in pixels, 0 where they are not known.
        classes: [R, C] float32, what the detector gave each class; [0, 1] where it is not known.
        texts, keywords, image_id: as of `Record`.
    """

    features: np.ndarray
    boxes: np.ndarray
    width: np.ndarray
    height: np.ndarray
    classes: np.ndarray
    texts: tuple[str, ...]
    keywords: tuple[str, ...]
    image_id: str


@dataclasses.dataclass(frozen=True)
class SegmentationRecord:
    """One image, and the class of each of its pixels.

    Attributes:
        image: the encoded file, byte for byte.
        mask: uint8 [bytes], the encoded file of the classes, byte for byte: see
            `masks.decode_mask`. It is no image to whoever looks at images.
        image_id: a name that no other image of the data set has.
    """

    image: bytes
    mask: np.ndarray
    image_id: str


IMAGES = RecordKind(
    marker="images",
    name="images with captions",
    record=Record,
    features=Features(
        {
            "image": tfds.features.Image(doc="encoded file, kept byte for byte"),
            "texts": tfds.features.Sequence(tfds.features.Text(), doc="captions"),
            "keywords": tfds.features.Sequence(tfds.features.Text(), doc="tags, maybe none"),
            "image_id": tfds.features.Text(doc="unique in the data set"),
        }
    ),
    id_field="image_id",
    command="python -m vlmo_jax.datasets.build IMAGES OUT",
)
# The same without captions, for stage 1 and visual tokenizers.
BARE_IMAGES = dataclasses.replace(
    IMAGES,
    marker="bare_images",
    name="images without captions",
    command="python -m vlmo_jax.datasets.build IMAGES OUT --no_captions",
)
# 64 lines of text compress to a third of their size, and are read in less time than one image.
TEXTS = RecordKind(
    marker="texts",
    name="texts",
    record=TextRecord,
    features=Features(
        {
            "text": tfds.features.Text(doc="a document or a part of one"),
            "text_id": tfds.features.Text(doc="where the text comes from"),
        }
    ),
    id_field="text_id",
    command="python -m vlmo_jax.datasets.build_text FILES OUT",
    group_size=64,
)

QUESTIONS = RecordKind(
    marker="questions",
    name="images with questions",
    record=QuestionsRecord,
    features=Features(
        {
            "image": tfds.features.Image(doc="encoded file, kept byte for byte"),
            "image_id": tfds.features.Text(doc="unique in the data set"),
            "questions": tfds.features.Sequence(tfds.features.Text(), doc="each an example"),
            "question_ids": tfds.features.Sequence(tfds.features.Text(), doc="unique in the set"),
            "answers": tfds.features.Sequence(tfds.features.Text(), doc="as people wrote them"),
            "num_answers": tfds.features.Sequence(np.int32, doc="of each question"),
            "main_answers": tfds.features.Sequence(tfds.features.Text(), doc="most frequent"),
            "answer_types": tfds.features.Sequence(tfds.features.Text(), doc="such as yes/no"),
            "question_types": tfds.features.Sequence(tfds.features.Text(), doc="such as how many"),
        }
    ),
    id_field="image_id",
    command="python -m vlmo_jax.datasets.build VQA OUT --format=vqav2",
    examples_field="questions",
)
STATEMENTS = RecordKind(
    marker="statements",
    name="statements about two images",
    record=StatementRecord,
    features=Features(
        {
            "image_0": tfds.features.Image(doc="left, kept byte for byte"),
            "image_1": tfds.features.Image(doc="right, kept byte for byte"),
            "statement": tfds.features.Text(doc="true or false of both images"),
            "label": tfds.features.Scalar(np.int32, doc="1 true, 0 false, -1 not known"),
            "statement_id": tfds.features.Text(doc="unique in the data set"),
            "group_id": tfds.features.Text(doc="of statements that are consistent together"),
        }
    ),
    id_field="statement_id",
    command="python -m vlmo_jax.datasets.build NLVR2 OUT --format=nlvr2",
)

SEGMENTATIONS = RecordKind(
    marker="segmentations",
    name="images with masks of classes",
    record=SegmentationRecord,
    features=Features(
        {
            "image": tfds.features.Image(doc="encoded file, kept byte for byte"),
            "mask": tfds.features.Tensor(
                shape=(None,), dtype=np.uint8, encoding="bytes", doc="encoded file of the classes"
            ),
            "image_id": tfds.features.Text(doc="unique in the data set"),
        }
    ),
    id_field="image_id",
    command="python -m vlmo_jax.datasets.build SRC OUT --format=image_masks",
)


def regions_kind(
    width: int | None = None, classes: int | None = 1, dtype: type[np.generic] = np.float32
) -> RecordKind:
    """The kind of records of regions, as a data set of one width keeps them; all are read as
    REGIONS, in float32.

    Args:
        width: F of their features; None: any, for reading.
        classes: C, 1 where classes are not known; None: any, for reading.
        dtype: of features and classes on disk; np.float16 halves the files.
    """
    number = functools.partial(tfds.features.Tensor, encoding="bytes")
    features = Features(
        {
            "features": number(shape=(None, width), dtype=dtype, doc="of each region"),
            "boxes": number(shape=(None, 4), dtype=np.float32, doc="x1 y1 x2 y2, maybe none"),
            "width": tfds.features.Scalar(np.int32, doc="of the image in pixels, 0 unknown"),
            "height": tfds.features.Scalar(np.int32, doc="of the image in pixels, 0 unknown"),
            "classes": number(shape=(None, classes), dtype=dtype, doc="soft classes, maybe none"),
            "texts": tfds.features.Sequence(tfds.features.Text(), doc="captions"),
            "keywords": tfds.features.Sequence(tfds.features.Text(), doc="tags, maybe none"),
            "image_id": tfds.features.Text(doc="unique in the data set"),
        }
    )
    return RecordKind(
        marker="regions",
        name="regions of images with captions",
        record=RegionsRecord,
        features=features,
        id_field="image_id",
        command="python -m vlmo_jax.datasets.build FILES OUT --format=precomp",
    )


REGIONS = regions_kind(classes=None)

KINDS: dict[str, RecordKind] = {
    kind.marker: kind
    for kind in (IMAGES, TEXTS, BARE_IMAGES, QUESTIONS, STATEMENTS, REGIONS, SEGMENTATIONS)
}
