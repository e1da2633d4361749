import subprocess
import sys

import tensorflow_datasets as tfds

from vlmo_jax.datasets import records


def test_another_process_gives_the_same_bytes():
    code = (
        "from vlmo_jax.datasets import records; "
        "print(records.IMAGES.serialize(records.Record(b'image', ('a', 'b'), ('c',), 'd')).hex())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert (
        records.IMAGES.serialize(records.Record(b"image", ("a", "b"), ("c",), "d")).hex() == other
    )


def test_record_survives_the_disk_format(some_records):
    kind = records.IMAGES
    for record in some_records:
        example = kind.features.deserialize_example_np(
            kind.serialize(record), decoders={"image": tfds.decode.SkipDecoding()}
        )
        assert kind.parser(example) == record
