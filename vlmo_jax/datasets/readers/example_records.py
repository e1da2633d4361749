"""Records of questions and of statements, as their readers list and load them."""

from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import records
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.download_reader import DownloadReader
from vlmo_jax.datasets.readers.places import load_image_file
from vlmo_jax.datasets.readers.protocol import Entry


class Asked(NamedTuple):
    """A question of an image, with what people answered; see `records.QuestionsRecord`."""

    question_id: str
    question: str
    answers: tuple[str, ...] = ()
    main_answer: str = ""
    answer_type: str = ""
    question_type: str = ""


class Stated(NamedTuple):
    """A statement about two images; see `records.StatementRecord`."""

    statement: str
    label: int
    group_id: str


class QuestionsReader(DownloadReader):
    """Reads images with questions: the place of an entry is the path of its image below the
    download, its content the questions.
    """

    kind = records.QUESTIONS

    def load(self, entry: Entry) -> records.QuestionsRecord:
        """As `protocol.Reader`."""
        image = load_image_file(self.source, entry.place)
        return questions_record(image, entry.record_id, entry.content)

    def _list_questions(self, split: str, record_id: str, path: str, asked: list[Asked]) -> Entry:
        """The entry of an image, which is counted."""
        self._findings.add(split, {"images": 1, "questions": len(asked)})
        return Entry(split, record_id, path, tuple(asked))


class StatementsReader(DownloadReader):
    """Reads statements: the place of an entry are the paths of its images below the download, its
    content is what is `Stated`.
    """

    kind = records.STATEMENTS

    def load(self, entry: Entry) -> records.StatementRecord:
        """As `protocol.Reader`."""
        left, right = (load_image_file(self.source, path) for path in entry.place)
        return records.StatementRecord(
            image_0=left,
            image_1=right,
            statement=entry.content.statement,
            label=np.array(entry.content.label, np.int32),
            statement_id=entry.record_id,
            group_id=entry.content.group_id,
        )

    def _list_statement(
        self, split: str, statement_id: str, paths: tuple[str, str], stated: Stated
    ) -> Entry:
        """The entry of a statement, which is counted."""
        self._findings.add(split, {"statements": 1, "true": int(stated.label == 1)})
        return Entry(split, statement_id, paths, stated)


def questions_record(
    image: bytes, image_id: str, questions: tuple[Asked, ...]
) -> records.QuestionsRecord:
    """An image with its questions as a record."""
    return records.QuestionsRecord(
        image=image,
        image_id=image_id,
        questions=tuple(one.question for one in questions),
        question_ids=tuple(one.question_id for one in questions),
        answers=tuple(answer for one in questions for answer in one.answers),
        num_answers=np.array([len(one.answers) for one in questions], np.int32),
        main_answers=tuple(one.main_answer for one in questions),
        answer_types=tuple(one.answer_type for one in questions),
        question_types=tuple(one.question_type for one in questions),
    )


class UniqueIds:
    """Ids that were met, each with where it stands.

    Args:
        what: they are called.
    """

    def __init__(self, what: str) -> None:
        self._what, self._seen = what, dict[str, str]()

    def add(self, name: str, where: str) -> None:
        """Takes note of an id.

        Raises:
            DataError: it was met before.
        """
        if name in self._seen:
            raise DataError(
                f"{where} has {self._what} {name}, as {self._seen[name]}; leave one out"
            )
        self._seen[name] = where
