"""A kind of record: how what it is in memory lies on disk."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer

from vlmo_jax.datasets.errors import DataError


@dataclasses.dataclass(frozen=True)
class Parser:
    """Makes a record of what TFDS reads; can be pickled.

    Attributes:
        record: dataclass of the records.
        fields: for each of its fields a function of what TFDS gives for it.
    """

    record: type
    fields: Mapping[str, Callable[[Any], Any]]

    def __call__(self, example: Mapping[str, Any]) -> Any:
        """Returns the record of one example of `as_data_source`."""
        return self.record(**{name: parse(example[name]) for name, parse in self.fields.items()})


@dataclasses.dataclass(frozen=True, eq=False)
class RecordKind:
    """One kind of record.

    Attributes:
        marker: stands in the metadata of a data set that holds such records.
        name: what the records are, for messages.
        record: dataclass of the records. Its fields are those of `features`: images as bytes of the
            encoded file, texts as str, several of them as a tuple, numbers as numpy arrays.
        features: TFDS feature of each field: Image, Text, a Sequence of Text or numbers, Tensor or
            Scalar.
        id_field: the field that names a record, a text.
        command: makes a data set of them, for messages.
        group_size: records compressed together. Reading one reads its group, so large records stand
            alone.
        examples_field: the field whose members are examples, "" where a record is one. Of such
            records a data set keeps how many examples each has in `examples-SPLIT.npy` (int32
            [records]), so that an example is found without reading all records.

    Raises:
        ValueError: fields and features do not match.
    """

    marker: str
    name: str
    record: type
    features: tfds.features.FeaturesDict
    id_field: str
    command: str
    group_size: int = 1
    examples_field: str = ""

    def __post_init__(self) -> None:
        fields = {field.name for field in dataclasses.fields(self.record)}
        if fields != set(self.features) or self.id_field not in fields:
            raise ValueError(
                f"the fields of {self.record.__name__} ({', '.join(sorted(fields))}) must be the"
                f" features ({', '.join(sorted(self.features))}), {self.id_field} one of them"
            )

    @property
    def image_fields(self) -> tuple[str, ...]:
        """Names of the fields that hold an encoded image."""
        return tuple(name for name, feature in self.features.items() if _is_image(feature))

    @property
    def decoders(self) -> dict[str, Any]:
        """Of a TFDS data source: images stay encoded."""
        return {name: tfds.decode.SkipDecoding() for name in self.image_fields}

    @property
    def parser(self) -> Parser:
        """Function of an example of a TFDS data source with `decoders` that gives the record."""
        parsers = {name: _parser_of(feature) for name, feature in self.features.items()}
        return Parser(self.record, parsers)

    def serialize(self, record: Any) -> bytes:
        """Returns the bytes of a record as they lie in an ArrayRecord file.

        Args:
            record: of this kind.

        Returns:
            A serialized `tf.train.Example` that the features describe, the same for the same
            record.

        Raises:
            DataError: a number is too large for the type that its feature has on disk.
        """
        values = {name: getattr(record, name) for name in self.features}
        lists = {name: _plain(value, self.features[name]) for name, value in values.items()}
        example = self._serializer.get_tf_example(self.features.encode_example(lists))
        # TFDS' own serialize_example leaves the order of the fields to chance, and so the bytes of
        # the file.
        return example.SerializeToString(deterministic=True)

    @functools.cached_property
    def _serializer(self) -> example_serializer.ExampleSerializer:
        return example_serializer.ExampleSerializer(self.features.get_serialized_info())


def _plain(value: Any, feature: Any) -> Any:
    """A record's value as TFDS takes it for a feature."""
    if isinstance(value, tuple):
        return list(value)
    narrower = isinstance(value, np.ndarray) and value.dtype != feature.np_dtype
    if not (narrower and np.issubdtype(feature.np_dtype, np.floating)):
        return value
    try:
        with np.errstate(over="raise"):
            return value.astype(feature.np_dtype)
    except FloatingPointError as error:
        raise DataError(
            f"a number of a record is too large for {np.dtype(feature.np_dtype)}, which its data"
            " set is written in; use float32"
        ) from error


def _is_image(feature: Any) -> bool:
    return isinstance(feature, tfds.features.Image)


def _parser_of(feature: Any) -> Callable[[Any], Any]:
    """The function from what TFDS reads of a feature to the value of a record's field."""
    if _is_image(feature):
        return bytes
    if isinstance(feature, tfds.features.Text):
        return _as_text
    if isinstance(feature, tfds.features.Sequence):
        is_text = isinstance(feature.feature, tfds.features.Text)
        return _as_texts if is_text else functools.partial(np.array, dtype=feature.feature.np_dtype)
    return functools.partial(np.asarray, dtype=feature.np_dtype)


def _as_text(value: bytes) -> str:
    return value.decode("utf-8")


def _as_texts(values: Any) -> tuple[str, ...]:
    return tuple(value.decode("utf-8") for value in values)
