"""What a record is, in memory and on disk: one image with what people wrote about it, or one text."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer


@dataclasses.dataclass(frozen=True)
class Record:
    """One image with its captions.

    Attributes:
        image: the encoded file (JPEG, PNG, WebP... whatever Pillow reads), byte for byte.
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


class RecordKind(NamedTuple):
    """One kind of record, as far as writing and opening data sets differs between kinds.

    Attributes:
        name: what the records are, for messages.
        features: how TFDS describes them.
        serialize: record -> bytes in an ArrayRecord file, the same for the same record.
        from_example: example of `as_data_source` with `decoders` -> record.
        decoders: of the data source.
        group_size: records compressed together. Reading one reads its group, so large records stand
            alone.
        command: makes a data set of them, for messages.
    """

    name: str
    features: tfds.features.FeaturesDict
    serialize: Callable[[Any], bytes]
    from_example: Callable[[Mapping[str, Any]], Any]
    decoders: Mapping[str, Any]
    group_size: int
    command: str


FEATURES = tfds.features.FeaturesDict(
    {
        "image": tfds.features.Image(doc="encoded file, kept byte for byte"),
        "texts": tfds.features.Sequence(tfds.features.Text(), doc="captions"),
        "keywords": tfds.features.Sequence(tfds.features.Text(), doc="tags, maybe none"),
        "image_id": tfds.features.Text(doc="unique in the data set"),
    }
)
TEXT_FEATURES = tfds.features.FeaturesDict(
    {
        "text": tfds.features.Text(doc="a document or a part of one"),
        "text_id": tfds.features.Text(doc="where the text comes from"),
    }
)
_SERIALIZER = example_serializer.ExampleSerializer(FEATURES.get_serialized_info())
_TEXT_SERIALIZER = example_serializer.ExampleSerializer(TEXT_FEATURES.get_serialized_info())


def serialize(record: Record) -> bytes:
    """Returns the bytes of a record as they lie in an ArrayRecord file, the same for the same
    record.

    Args:
        record: any record.

    Returns:
        A serialized `tf.train.Example` that the features `FEATURES` describe.
    """
    example = FEATURES.encode_example(
        {
            "image": record.image,
            "texts": list(record.texts),
            "keywords": list(record.keywords),
            "image_id": record.image_id,
        }
    )
    # TFDS' own serialize_example leaves the order of the fields to chance, and so the bytes of the
    # file.
    return _SERIALIZER.get_tf_example(example).SerializeToString(deterministic=True)


def from_example(example: Mapping[str, Any]) -> Record:
    """Returns the record of one TFDS example.

    Args:
        example: what `as_data_source` gives with `tfds.decode.SkipDecoding()` for the image:
            encoded image, text as bytes.

    Returns:
        The same record that was written.
    """
    return Record(
        image=example["image"],
        texts=tuple(text.decode("utf-8") for text in example["texts"]),
        keywords=tuple(keyword.decode("utf-8") for keyword in example["keywords"]),
        image_id=example["image_id"].decode("utf-8"),
    )


def serialize_text(record: TextRecord) -> bytes:
    """Returns the bytes of a text record, as `serialize` does for images."""
    example = TEXT_FEATURES.encode_example({"text": record.text, "text_id": record.text_id})
    return _TEXT_SERIALIZER.get_tf_example(example).SerializeToString(deterministic=True)


def text_from_example(example: Mapping[str, Any]) -> TextRecord:
    """Returns the text record of one TFDS example, whose strings are bytes."""
    return TextRecord(example["text"].decode("utf-8"), example["text_id"].decode("utf-8"))


IMAGES = RecordKind(
    "images with captions",
    FEATURES,
    serialize,
    from_example,
    {"image": tfds.decode.SkipDecoding()},
    group_size=1,
    command="python -m vlmo_jax.datasets.build IMAGES OUT",
)
# 64 lines of text compress to a third of their size, and are read in less time than one image.
TEXTS = RecordKind(
    "texts",
    TEXT_FEATURES,
    serialize_text,
    text_from_example,
    {},
    group_size=64,
    command="python -m vlmo_jax.datasets.build_text FILES OUT",
)
