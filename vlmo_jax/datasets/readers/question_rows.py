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
a number), answer_type and question_type, by which scores are told apart. A question without an
answer is asked in evaluations, and not trained on. An image is named by its path, or by whatever
fits one file alone: its name, another case.

A record is an image with all its questions. answers.txt beside the records lists what a model
chooses from: the normal forms of all first or most frequent answers of train (of all splits where
there is no train). Train with --config.data.answer_matching=normalised unless the answers are in
normal form already: lower case, no punctuation, no articles, numbers in digits.

Left out, each by name: questions without text and those of images that are missing. A question_id
that comes twice and a line that cannot be read end the build, with file and line.
"""

import collections
from collections.abc import Iterator, Mapping
from pathlib import Path

from vlmo_jax.datasets import records
from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.example_rows import Folder, Row
from vlmo_jax.datasets.readers.image_bytes import read_image
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.readers.vqav2 import Asked, questions_record
from vlmo_jax.datasets.vqa_answers import vocabulary_form

EXAMPLE = '{"image": "cat.jpg", "question": "What is it?", "answer": "a cat"}'


class QuestionRowsReader:
    """Reads questions of one's own; see `protocol.Reader`.

    Args:
        source: the folder of images and questions.
    """

    kind = records.QUESTIONS
    description = "questions about images"
    license = ""
    published: Mapping[str, Mapping[str, int]] = {}

    def __init__(self, source: Path) -> None:
        self._source, self._folder = Path(source), Folder(source, EXAMPLE)
        self._counts: dict[str, dict[str, int]] = {}
        self._left_out: dict[str, str] = {}
        self._answers: dict[str, dict[str, None]] = {}

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        return self._folder.files()

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        self._counts, self._left_out, self._answers = {}, {}, {}
        asked: dict[tuple[str, str], list[Asked]] = {}
        seen: dict[str, str] = {}
        for number, row in enumerate(self._folder.rows()):
            question_id = row.text("question_id", needed=False) or str(number)
            if question_id in seen:
                raise DataError(
                    f"{row.where} has question_id {question_id}, as {seen[question_id]}; leave one"
                    " out"
                )
            seen[question_id] = row.where
            path, problem = self._folder.find(row.text("image"))
            question = _asked(row, question_id)
            if problem:
                self._left_out[f"{row.where}: {row.text('image')}"] = problem
            elif not question.question:
                self._left_out[f"{row.where}: question {question_id}"] = "it has no text"
            else:
                asked.setdefault((row.split, path), []).append(question)
        splits = collections.Counter(path for _, path in asked)
        for (split, path), questions in asked.items():
            counts = self._counts.setdefault(split, {"images": 0, "questions": 0})
            counts["images"] += 1
            counts["questions"] += len(questions)
            answers = self._answers.setdefault(split, {})
            answers |= {vocabulary_form(one.main_answer): None for one in questions if one.answers}
            record_id = path if splits[path] == 1 else f"{split}:{path}"
            yield Entry(split, record_id, str(self._source / path), tuple(questions))

    def load(self, entry: Entry) -> records.QuestionsRecord:
        """See `protocol.Reader`."""
        return questions_record(read_image(Path(entry.place)), entry.record_id, entry.content)

    def counts(self) -> dict[str, dict[str, int]]:
        """See `protocol.Reader`."""
        return self._counts

    def left_out(self) -> dict[str, str]:
        """See `protocol.Reader`."""
        return self._left_out

    def files(self) -> dict[str, str]:
        """Text files that belong beside the records, {name: contents}, once `entries` is exhausted:
        the answers to choose from.
        """
        every = {answer: None for answers in self._answers.values() for answer in answers}
        chosen = [answer for answer in self._answers.get("train", every) if answer]
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
    given = row.values.get("answers", row.values.get("answer"))
    if isinstance(given, str):
        given = given.split("|")
    elif isinstance(given, int | float) and not isinstance(given, bool):
        given = [str(given)]
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise DataError(f"{row.where} has {given!r} as answer; give a text, or a list of texts")
    return tuple(answer for answer in (" ".join(one.split()) for one in given) if answer)
