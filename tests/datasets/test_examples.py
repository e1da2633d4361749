"""Examples one by one: the same with stored numbers and counted ones, also of parts of splits."""

import pickle

import numpy as np
import pytest

from tests.datasets.readers.pictures import picture
from vlmo_jax.datasets import records, sources
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.examples import all_examples, keep_examples
from vlmo_jax.datasets.readers.example_records import Asked, questions_record
from vlmo_jax.datasets.writer import DatasetWriter

COUNTS = (2, 1, 0, 3)


def write(out, counts=COUNTS, prefix="q"):
    with DatasetWriter(out, kind=records.QUESTIONS, description="for tests") as dataset:
        for image, count in enumerate(counts):
            asked = tuple(Asked(f"{prefix}{image}.{n}", f"what {n}?") for n in range(count))
            dataset.write("train", questions_record(picture(image), f"{prefix}{image}", asked))
    return out


def open_split(folder, split="train"):
    return sources.open_records(str(folder), split, [records.QUESTIONS])


def ids(examples):
    return [record.question_ids[number] for record, number in examples]


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "set")


@pytest.mark.parametrize("stored", [True, False])
def test_every_question_is_an_example(folder, stored):
    counts = folder / "examples-train.npy"
    counts.unlink(missing_ok=True)
    if stored:
        np.save(counts, np.array(COUNTS, np.int32))
    examples = pickle.loads(pickle.dumps(all_examples(open_split(folder))))
    assert len(examples) == 6 and ids(examples) == ["q0.0", "q0.1", "q1.0", "q3.0", "q3.1", "q3.2"]
    assert ids(all_examples(open_split(folder, "train[1:4]"))) == ids(examples)[2:]
    assert ids(all_examples(open_split(folder, "train[3:]+train[:1]"))) == [
        *ids(examples)[3:],
        "q0.0",
        "q0.1",
    ]
    with pytest.raises(IndexError):
        examples[6]


def test_numbers_of_another_data_set_are_refused(folder):
    np.save(folder / "examples-train.npy", np.ones(3, np.int32))
    with pytest.raises(DataError, match="not the counts of 4 records; remove it"):
        all_examples(open_split(folder))
    (folder / "examples-train.npy").write_bytes(b"cut")
    with pytest.raises(DataError, match="examples-train.npy is cut or damaged"):
        all_examples(open_split(folder))


def test_some_are_kept_and_the_others_counted(folder, tmp_path):
    keep = lambda record: [number != 1 for number in range(len(record.questions))]
    kept = keep_examples(open_split(folder), keep)
    assert ids(kept) == ["q0.0", "q1.0", "q3.0", "q3.2"] and kept.num_left_out == 2
    write(tmp_path / "other", (2,), "o")
    joined = keep_examples(open_split(f"{folder}+{tmp_path / 'other'}"), keep)
    assert ids(joined) == [*ids(kept), "o0.0"]
    assert [len(part) for part in joined.parts] == [4, 1] and joined.num_bytes > 0
