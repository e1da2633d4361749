"""A kind of record is data: one declared here is written, opened, batched and told apart."""

import dataclasses
import io
import json
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from vlmo_jax.datasets import check, records, sources, stats, writer
from vlmo_jax.input import attempts
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.schema import INDEX_COLUMNS, Column


@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """Two images, a question with answers, and boxes in the first image."""

    left: bytes
    right: bytes
    question: str
    answers: tuple[str, ...]
    boxes: np.ndarray
    number: int
    question_id: str


QUESTIONS = records.RecordKind(
    marker="riddles",
    name="riddles about two images",
    record=Question,
    features=records.Features(
        {
            "left": tfds.features.Image(),
            "right": tfds.features.Image(),
            "question": tfds.features.Text(),
            "answers": tfds.features.Sequence(tfds.features.Text()),
            "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
            "number": tfds.features.Scalar(np.int64),
            "question_id": tfds.features.Text(),
        }
    ),
    id_field="question_id",
    command="make riddles",
    group_size=3,
)


def solid(level):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), (level, 0, 0)).save(file, "PNG")
    return file.getvalue()


def make_question(i):
    rng = np.random.default_rng(i)
    return Question(
        left=solid(2 * i),
        right=solid(2 * i + 1),
        question=f"how many of {i}? 😀",
        answers=tuple(f"{n}" for n in range(i % 3)),
        boxes=rng.random((i % 4, 4), np.float32),
        number=i,
        question_id=f"question {i}",
    )


def write(out, kind=QUESTIONS, made=None):
    with writer.DatasetWriter(out, kind=kind, description="for tests") as dataset:
        for record in made or [make_question(i) for i in range(10)]:
            dataset.write("train", record)
    return str(out)


def assert_same(left, right):
    for field in dataclasses.fields(Question):
        a, b = getattr(left, field.name), getattr(right, field.name)
        assert type(a) is type(b) or field.name == "number"
        np.testing.assert_array_equal(a, b)


@dataclasses.dataclass(frozen=True)
class QuestionExamples:
    """Rows without a caption: the levels of both images, the sum of the boxes, what is asked."""

    source: list
    seed: int = 0
    columns = {
        "levels": Column((2,), np.uint8),
        "boxes": Column((3, 4), np.float32),
        "number": Column((), np.int32, empty=-1),
        "num_answers": Column((), np.int32),
        **INDEX_COLUMNS,
    }

    def write(self, batch, row, position, index):
        return attempts.write_or_replace(
            lambda index, rng: self._write(batch, row, position, index),
            len(self.source),
            seed=self.seed,
            position=position,
            index=index,
        )

    def _write(self, batch, row, position, index):
        record = attempts.read_record(self.source, index)
        for side, data in enumerate((record.left, record.right)):
            image = attempts.decode_image(data, record.question_id)
            batch["levels"][row, side] = np.asarray(image)[0, 0, 0]
        batch["boxes"][row, : len(record.boxes)] = record.boxes
        batch["number"][row], batch["num_answers"][row] = record.number, len(record.answers)
        batch["index"][row], batch["valid"][row] = position, True
        return attempts.Report(seen=1)


def test_records_of_a_new_kind_come_back_from_disk(tmp_path):
    source = sources.open_records(write(tmp_path / "data"), "train", [QUESTIONS])
    assert len(source) == 10
    for i, record in enumerate(pickle.loads(pickle.dumps(source))):
        assert_same(record, make_question(i))
        assert record.boxes.dtype == np.float32


def test_a_new_kind_gives_batches_for_training_and_evaluation(tmp_path):
    source = sources.open_records(write(tmp_path / "data"), "train", [QUESTIONS])
    maker, loading = QuestionExamples(source), Loading(num_threads=2)
    with stream_batches(maker, batch_size=5, start_step=0, end_step=2, loading=loading) as stream:
        trained = [next(stream) for _ in range(2)]
    evaluated = list(split_batches(maker, batch_size=4, loading=loading))
    numbers = np.concatenate([batch["number"] for batch in trained])
    assert sorted(numbers.tolist()) == list(range(10)) and stream.seen == 10 and stream.texts == 0
    last = evaluated[-1]
    assert last["valid"].tolist() == [True, True, False, False]
    assert last["number"].tolist() == [8, 9, -1, -1] and not last["boxes"][2:].any()
    for batch in trained + evaluated:
        for row in np.flatnonzero(batch["valid"]):
            expected = make_question(int(batch["number"][row]))
            i, boxes = expected.number, expected.boxes
            assert batch["levels"][row].tolist() == [2 * i, 2 * i + 1]
            assert batch["num_answers"][row] == len(expected.answers)
            np.testing.assert_array_equal(batch["boxes"][row, : len(boxes)], boxes)
            assert not batch["boxes"][row, len(boxes) :].any()
    hosts = [list(split_batches(maker, batch_size=4, host=Host(i, 2))) for i in range(2)]
    for whole, *parts in zip(evaluated, *hosts, strict=True):
        for name, values in whole.items():
            np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))


def test_a_new_kind_joins_by_its_entry(tmp_path, monkeypatch, capsys):
    data = write(tmp_path / "data")
    with pytest.raises(ValueError, match="holds records of kind 'riddles', which this version"):
        sources.kind_of(data)
    monkeypatch.setitem(records.KINDS, QUESTIONS.marker, QUESTIONS)
    assert sources.kind_of(data) is QUESTIONS
    check.main([data])
    assert "All of" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="of which there are no statistics"):
        stats.main([data])
    broken = dataclasses.replace(make_question(1), right=solid(3)[:40])
    with pytest.raises(SystemExit):
        check.main([write(tmp_path / "broken", made=[make_question(0), broken])])
    assert "broken: train: question 1: its image cannot be decoded" in capsys.readouterr().out


def test_the_marker_tells_kinds_apart_that_share_features(tmp_path, some_records, monkeypatch):
    fields = [*(field.name for field in dataclasses.fields(records.Record)), "mask"]
    more = dataclasses.make_dataclass("More", fields, frozen=True)
    features = dict(records.IMAGES.features) | {"mask": tfds.features.Image()}
    masks = dataclasses.replace(
        records.IMAGES,
        marker="masks",
        name="images with masks",
        record=more,
        features=records.Features(features),
    )
    monkeypatch.setitem(records.KINDS, "masks", masks)
    made = [more(**vars(record), mask=record.image) for record in some_records]
    data = write(tmp_path / "masks", masks, made)
    assert sources.open_records(data, "train", [masks])[3] == made[3]
    with pytest.raises(ValueError, match="holds images with masks, not images with captions"):
        sources.open_source(data, "train")
    # Without a marker, as others' data sets are, the exact features decide, then some of them.
    (tmp_path / "masks" / "metadata.json").unlink()
    assert sources.kind_of(data) is masks
    monkeypatch.delitem(records.KINDS, "masks")
    assert sources.open_source(data, "train")[3] == some_records[3]


def test_data_sets_of_earlier_versions_have_no_marker_and_open(dataset, some_records):
    marker = dataset / "metadata.json"
    assert json.loads(marker.read_text()) == {"record_kind": "images"}
    marker.unlink()
    assert list(sources.open_source(str(dataset), "train")) == some_records[:8]
    for name, kind in (("emoji", records.IMAGES), ("glosses", records.TEXTS)):
        assert not (sources.open_records(name, "train").directory / "metadata.json").exists()
        assert sources.kind_of(name) is kind


@pytest.mark.parametrize(
    "name, split, kind",
    [
        ("emoji", "unseen_concepts", records.IMAGES),
        ("openclipart", "validation", records.IMAGES),
        ("glosses", "validation", records.TEXTS),
    ],
)
def test_embedded_shards_are_written_again_byte_for_byte(tmp_path, name, split, kind):
    source = sources.open_records(name, split)
    with writer.DatasetWriter(tmp_path / name, kind=kind, description="") as dataset:
        for record in source:
            dataset.write(split, record)
    shard = f"{name}-{split}.array_record-00000-of-00001"
    for file in (shard, "features.json"):
        assert (tmp_path / name / file).read_bytes() == (source.directory / file).read_bytes()


def test_fields_and_features_must_match():
    with pytest.raises(ValueError, match="fields of TextRecord .*must be the features"):
        dataclasses.replace(records.IMAGES, record=records.TextRecord)
