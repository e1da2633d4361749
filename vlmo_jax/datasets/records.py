"""The record: one image with what people wrote about it, in memory and on disk."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from tensorflow_datasets.core import example_serializer
import tensorflow_datasets as tfds


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


FEATURES = tfds.features.FeaturesDict({
    "image": tfds.features.Image(doc="encoded file, kept byte for byte"),
    "texts": tfds.features.Sequence(tfds.features.Text(), doc="captions"),
    "keywords": tfds.features.Sequence(tfds.features.Text(), doc="tags, maybe none"),
    "image_id": tfds.features.Text(doc="unique in the data set"),
})
_SERIALIZER = example_serializer.ExampleSerializer(FEATURES.get_serialized_info())


def serialize(record: Record) -> bytes:
    """Returns the bytes of a record as they lie in an ArrayRecord file, the same for the same record.

    Args:
        record: any record.

    Returns:
        A serialized `tf.train.Example` that the features `FEATURES` describe.
    """
    example = FEATURES.encode_example({
        "image": record.image,
        "texts": list(record.texts),
        "keywords": list(record.keywords),
        "image_id": record.image_id,
    })
    # TFDS' own serialize_example leaves the order of the fields to chance, and so the bytes of the file.
    return _SERIALIZER.get_tf_example(example).SerializeToString(deterministic=True)


def from_example(example: Mapping[str, Any]) -> Record:
    """Returns the record of one TFDS example.

    Args:
        example: what `as_data_source` gives with `tfds.decode.SkipDecoding()` for the image: encoded image, text as bytes.

    Returns:
        The same record that was written.
    """
    return Record(
        image=example["image"],
        texts=tuple(text.decode("utf-8") for text in example["texts"]),
        keywords=tuple(keyword.decode("utf-8") for keyword in example["keywords"]),
        image_id=example["image_id"].decode("utf-8"),
    )
