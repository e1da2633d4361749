"""Rows of questions and of statements: each example once an epoch, the same wherever it starts."""

import dataclasses

import numpy as np
import pytest

from tests.datasets.readers.official_files import nlvr2, read_all, vqav2
from vlmo_jax.datasets.examples import ExampleSource
from vlmo_jax.datasets.readers.nlvr2 import Nlvr2Reader
from vlmo_jax.datasets.readers.vqav2 import VqaV2Reader
from vlmo_jax.input.answers import AnswerTargets
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.questions import EvalQuestions, QuestionExamples, QuestionRows
from vlmo_jax.input.statements import EvalStatements, StatementExamples, StatementRows
from vlmo_jax.input.text.tokenizer import load_tokenizer

TARGETS = AnswerTargets(("2", "yes"))
ROWS, PAIRS = QuestionRows(8, 12, 2), StatementRows(8, 12)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("emoji")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    found, _ = read_all(VqaV2Reader(vqav2(tmp_path_factory.mktemp("vqa"))))
    records = found["train"] + found["validation"]
    counts = np.array([len(record.questions) for record in records])
    kept = np.concatenate([TARGETS.answerable(record) for record in records])
    return ExampleSource(records, counts, kept)


@pytest.fixture(scope="module")
def statements(tmp_path_factory):
    found, _ = read_all(Nlvr2Reader(nlvr2(tmp_path_factory.mktemp("nlvr2"))))
    return [*found["train"], *found["dev"]]


def taken(maker, start, end, batch_size=4):
    with stream_batches(maker, batch_size=batch_size, start_step=start, end_step=end) as batches:
        return [{name: values.copy() for name, values in batch.items()} for batch in batches]


def test_an_epoch_has_each_question_once_with_its_answers(questions, tokenizer):
    # Of 18 questions "Is it a dog?" and "What is it?" have no answer in the list.
    assert len(questions) == 16 and questions.num_left_out == 2
    maker = QuestionExamples(questions, tokenizer, ROWS, 3, TARGETS)
    batches = taken(maker, 0, 4)
    asked = [tokenizer.decode(row[1:].tolist()) for batch in batches for row in batch["token_ids"]]
    assert len(set(asked)) == 16
    for batch in batches:
        assert set(batch) == set(ROWS.columns)
        for name, column in ROWS.columns.items():
            assert batch[name].shape == (4, *column.shape) and batch[name].dtype == column.dtype
        for ids, scores in zip(batch["answer_ids"], batch["answer_scores"]):
            assert (
                (ids[0], scores[0]) in ((0, 1.0), (1, 1.0))
                and set(ids[1:]) == {-1}
                and not scores[1:].any()
            )


def test_a_stream_goes_on_where_it_stopped(questions, statements, tokenizer):
    for maker in (
        QuestionExamples(questions, tokenizer, ROWS, 3, TARGETS),
        StatementExamples(statements, tokenizer, PAIRS, 3),
    ):
        whole, rest = taken(maker, 0, 6), taken(maker, 4, 6)
        for one, other in zip(whole[4:], rest, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name], err_msg=name)


class Counted(list):
    """Records that count how often one is read."""

    reads = 0

    def __getitem__(self, place):
        self.reads += 1
        return super().__getitem__(place)


def test_an_evaluation_has_all_questions_in_order_and_padding(questions, tokenizer):
    records = Counted(questions.records)
    everything = ExampleSource(records, np.array([len(r.questions) for r in questions.records]))
    batches = list(split_batches(EvalQuestions(everything, tokenizer, ROWS), batch_size=5))
    index = np.concatenate([batch["index"][batch["valid"]] for batch in batches])
    np.testing.assert_array_equal(index, np.arange(18))
    assert sum(len(batch["valid"]) for batch in batches) == 20
    assert records.reads < 14  # 9 images; threads that begin with the same one each read it


def test_statements_have_both_images_and_a_label(statements, tokenizer):
    (batch,) = taken(StatementExamples(statements, tokenizer, PAIRS, 3), 0, 1, batch_size=5)
    assert batch["label"].tolist().count(1) == 2 and batch["label"].dtype == np.int32
    # Left images are (50, 0, 205), right ones (51, 0, 204); views may be changed, but not mixed up.
    plain = next(split_batches(EvalStatements(statements, tokenizer, PAIRS), batch_size=5))
    assert (abs(plain["image_0"][:, 4, 4, 0].astype(int) - 50) <= 1).all()
    assert (plain["image_1"][:, 4, 4, 2] < 205 + 2).all() and plain["valid"].all()
    assert set(batch) == set(PAIRS.columns) and set(plain) == {*PAIRS.inputs, "index", "valid"}


def test_statements_without_label_are_not_trained_on(statements, tokenizer):
    unknown = [dataclasses.replace(one, label=np.array(-1, np.int32)) for one in statements]
    with pytest.raises(BrokenDataError, match="nobody says whether it is true; train on a split"):
        taken(StatementExamples(unknown, tokenizer, PAIRS, 3), 0, 1)
    mixed = [*unknown, statements[0]]
    maker = StatementExamples(mixed, tokenizer, PAIRS, 3)
    loading = Loading(max_broken_fraction=1.0)
    with stream_batches(maker, batch_size=2, start_step=0, end_step=1, loading=loading) as batches:
        assert next(batches)["label"].tolist() == [int(statements[0].label)] * 2


def test_made_up_batches_have_the_columns():
    for rows in (ROWS, PAIRS):
        batch = rows.synthetic(4, np.random.default_rng(0), vocab_size=9)
        assert {name: (values.shape[1:], values.dtype) for name, values in batch.items()} == {
            name: (column.shape, np.dtype(column.dtype)) for name, column in rows.columns.items()
        }
