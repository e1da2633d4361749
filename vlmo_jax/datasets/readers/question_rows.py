"""Questions of one's own about images, as a table or JSON lines beside them.

    SRC/
      questions.jsonl          or questions.csv, questions.tsv; or a file a split: train.jsonl, ...
      photos/cat.jpg ...       anywhere below SRC

questions.jsonl, a line a question:

    {"image": "photos/cat.jpg", "question": "What is on the mat?", "answer": "a cat"}
    {"image": "photos/cat.jpg", "question": "How many cats?", "answers": ["1", "one", "2"]}
    {"image": "photos/dog.jpg", "question": "Is it a cat?", "answer": "no", "split": "validation"}

questions.csv, several answers with | between them:

    image,question,answer
    photos/cat.jpg,What is on the mat?,a cat
    photos/cat.jpg,How many cats?,1|one|2

Further columns: split (else that of the file's name, and train for questions.*), question_id (else
a number), answer_type and question_type, by which scores are told apart; others are not read, and a
note names them. A question without an answer is asked in evaluations, and not trained on. An image
is named by its path, or by whatever fits one file alone: its name, another case; a note says how
many were.

A record is an image with all its questions. answers.txt beside the records lists what a model
chooses from: the normal forms of all first or most frequent answers of train (of all splits where
there is no train); a note counts answers of which the normal form leaves nothing, such as "A".
Train with --config.data.answer_matching=normalised unless the answers are in normal form already:
lower case, no punctuation, no articles, numbers in digits.

Left out, each by name: questions without text and those of images that are missing. A question_id
that comes twice, two columns of one name, a row without an image and a line that cannot be read end
the build, with file and line.
"""

import collections
from collections.abc import Iterator
from pathlib import Path

from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.example_records import Asked, QuestionsReader, UniqueIds
from vlmo_jax.datasets.readers.example_rows import Row, RowFiles
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.plain_text import whole
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.vqa_answers import vocabulary_form

_COLUMNS = ("question", "question_id", "answer", "answers", "answer_type", "question_type")
EXAMPLE = '{"image": "cat.jpg", "question": "What is it?", "answer": "a cat"}'


class QuestionRowsReader(QuestionsReader):
    """Reads questions of one's own.

    Args:
        source: the folder of images and questions.
    """

    description = "questions about images"

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._rows = RowFiles(self.source, ("image",), _COLUMNS, EXAMPLE)
        self._answers: dict[str, dict[str, None]] = {}
        self._without_form: list[str] = []

    @property
    def notes(self) -> list[str]:
        """As `protocol.Reader`."""
        lost = self._without_form
        note = (
            f"the answer of {len(lost):,} questions has no normal form, such as {lost[0]!r}; it is"
            " not among those to choose from: give a longer one"
            if lost
            else ""
        )
        return [*self._rows.notes(), *filter(None, [note])]

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        return self._rows.files()

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        self._findings, self._answers, self._without_form = Findings(), {}, []
        asked = self._by_image()
        splits = collections.Counter(path for _, path in asked)
        for (split, path), questions in asked.items():
            answers = self._answers.setdefault(split, {})
            for question in questions:
                if form := vocabulary_form(question.main_answer):
                    answers[form] = None
                elif question.answers:
                    self._without_form.append(question.main_answer)
            record_id = path if splits[path] == 1 else f"{split}:{path}"
            yield self._list_questions(split, record_id, path, questions)

    def _by_image(self) -> dict[tuple[str, str], list[Asked]]:
        """The questions of each split and image."""
        asked: dict[tuple[str, str], list[Asked]] = {}
        ids, left_out = UniqueIds("question_id"), self._findings.left_out
        for number, row in enumerate(self._rows.rows()):
            question_id = row.text("question_id", needed=False) or str(number)
            ids.add(question_id, row.where)
            name, question = row.image("image"), _asked(row, question_id)
            path, problem = self._rows.find(name)
            if problem:
                left_out[f"{row.where}: {name}"] = problem
            elif not question.question:
                left_out[f"{row.where}: question {question_id}"] = "it has no text"
            else:
                asked.setdefault((row.split, path), []).append(question)
        return asked

    def files(self) -> dict[str, str]:
        """Text files that belong beside the records, {name: contents}, once `entries` is exhausted:
        the answers to choose from.
        """
        every = {answer: None for answers in self._answers.values() for answer in answers}
        chosen = list(self._answers.get("train", every))
        return {ANSWERS: answers_text(chosen)} if chosen else {}


def _asked(row: Row, question_id: str) -> Asked:
    answers = _answers(row)
    return Asked(
        question_id,
        row.text("question"),
        answers,
        max(answers, key=answers.count) if answers else "",
        row.text("answer_type", needed=False),
        row.text("question_type", needed=False),
    )


def _answers(row: Row) -> tuple[str, ...]:
    """The answers of a row, in a list or with | between them."""
    given = row.values.get("answers")
    given = row.values.get("answer") if given in (None, "", []) else given
    if isinstance(given, str):
        given = given.split("|")
    elif isinstance(given, int | float) and not isinstance(given, bool):
        given = [str(given)]
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise DataError(f"{row.where} has {given!r} as answer; give a text, or a list of texts")
    texts = (" ".join(whole(one, row.where).split()) for one in given)
    return tuple(filter(None, texts))
