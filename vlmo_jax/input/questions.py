"""Examples of visual question answering: an image in view, a question in tokens, and scores of
answers, written straight into a row of a batch.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vlmo_jax.datasets.examples import ExampleSource
from vlmo_jax.datasets.records import QuestionsRecord
from vlmo_jax.input.answers import AnswerTargets, question_answers
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    UnusableRecordError,
    decode_image,
    needed_record,
    picture_for_views,
    read_record,
    require_records,
)
from vlmo_jax.input.canvas import CanvasRows
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.plain_images import ImageForm, ImageRows, check_image_size
from vlmo_jax.input.schema import INDEX_COLUMNS, UNUSED, Batch, Column, empty_batch
from vlmo_jax.input.text.plain_texts import synthetic_texts, text_columns, write_text
from vlmo_jax.input.text.tokenizer import Tokenizer, check_text_length

TARGETS = 10  # answers that a row has room for, as many as people answer a question of VQAv2


@dataclasses.dataclass(frozen=True)
class QuestionRows:
    """Sizes of rows that hold an image and a question about it.

    Args:
        image_size: S, side of the images in pixels.
        text_length: T, tokens of a question, those of its begin and end included.
        num_answers: that the model chooses from; batches hold ids below it.
        canvas: of images that keep their shape; None: they become squares.

    Raises:
        ConfigError: a size is impossible.
    """

    image_size: int
    text_length: int
    num_answers: int
    canvas: CanvasRows | None = None

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        check_text_length(self.text_length)

    @property
    def images(self) -> ImageForm:
        """What the images become."""
        return self.canvas or ImageRows(self.image_size)

    @property
    def inputs(self) -> dict[str, Column]:
        """The columns that a model reads: those of `images`, token_ids int32 [T], token_mask bool
        [T].
        """
        return {**self.images.columns, **text_columns(self.text_length)}

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: `inputs`; answer_ids int32 [10], -1 where unused, and their scores
        answer_scores float32 [10].
        """
        return {
            **self.inputs,
            "answer_ids": Column((TARGETS,), np.int32, UNUSED),
            "answer_scores": Column((TARGETS,), np.float32),
        }

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        answer_ids = np.full((rows, TARGETS), UNUSED, np.int32)
        answer_ids[:, 0] = rng.integers(0, self.num_answers, rows)
        scores = (answer_ids != UNUSED).astype(np.float32)
        return {
            **self.images.synthetic(rows, rng),
            **synthetic_texts(rows, self.text_length, rng, vocab_size),
            "answer_ids": answer_ids,
            "answer_scores": scores,
        }


@dataclasses.dataclass(frozen=True)
class QuestionExamples(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`: each question comes
    once an epoch.

    Args:
        source: of `datasets.examples.Example`s of questions.
        tokenizer: of `load_tokenizer`.
        rows: sizes; longer questions are cut, and counted.
        seed: 0 to 2**32 - 1.
        targets: what the answers of people are worth.
        augmentation: how views of the images are drawn.
    """

    source: Sequence
    tokenizer: Tokenizer
    rows: QuestionRows
    seed: int
    targets: AnswerTargets
    augmentation: Augmentation = Augmentation()

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `QuestionRows`."""
        return self.rows.columns

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        record, number = read_record(self.source, index)
        scores = self.targets.scores(question_answers(record)[number])
        if not scores:
            raise UnusableRecordError(
                record.question_ids[number], "none of its answers is among those of the model"
            )
        images = self.rows.images
        least = images.min_pixels(self.augmentation)
        with picture_for_views(
            record.image, record.image_id, min_pixels=least, fast=self.augmentation.fast
        ) as picture:
            images.write_view(batch, row, picture, self.augmentation, rng)
        whole = write_text(batch, row, record.questions[number], self.tokenizer, eager=True)
        write_scores(batch, row, scores)
        return Report(seen=1, texts=1, truncated=0 if whole else 1)


def write_scores(batch: Batch, row: int, scores: Mapping[int, float]) -> None:
    """Writes the answers of a question, best first, into a row; beyond TARGETS they have no room.

    Args:
        batch, row: where to write.
        scores: id -> score.
    """
    kept: Iterable[tuple[int, float]] = list(scores.items())[:TARGETS]
    batch["answer_ids"][row], batch["answer_scores"][row] = UNUSED, 0.0
    for place, (number, score) in enumerate(kept):
        batch["answer_ids"][row, place] = number
        batch["answer_scores"][row, place] = score


@dataclasses.dataclass(frozen=True)
class EvalQuestions:
    """Makes the rows of an evaluation, for `evaluation.split_batches`: every question once, with
    the whole image.

    Args:
        source: the questions.
        tokenizer: of the texts.
        rows: sizes.

    Raises:
        ValueError: there are no questions.
    """

    source: ExampleSource
    tokenizer: Tokenizer
    rows: QuestionRows

    def __post_init__(self) -> None:
        require_records(self.source)

    @property
    def columns(self) -> dict[str, Column]:
        """The inputs of `QuestionRows`, and index int32 and valid bool."""
        return {**self.rows.inputs, **INDEX_COLUMNS}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes question `index` into a row; `position` is its place in the split, the same
        number.

        Raises:
            BrokenDataError: the record or its image is broken.
        """
        place, number = self.source.find(index)
        with needed_record(place):
            record, image = _seen(self, place)
        for name, values in image.items():
            batch[name][row] = values[0]
        whole = write_text(batch, row, record.questions[number], self.tokenizer, eager=False)
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1, texts=1, truncated=0 if whole else 1)


@functools.lru_cache(maxsize=64)
def _seen(maker: EvalQuestions, place: int) -> tuple[QuestionsRecord, Batch]:
    """A record and a batch of its image, kept for its other questions, which come next."""
    record, images = read_record(maker.source.records, place), maker.rows.images
    batch = empty_batch(images.columns, 1)
    images.write(batch, 0, decode_image(record.image, record.image_id))
    return record, batch
