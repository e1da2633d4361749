"""Visual question answering: what a model answers to all questions of a split, and how often it is
right.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.datasets.examples import ExampleSource, TextsOnly
from vlmo_jax.evals.answered_split import answer_split
from vlmo_jax.evals.evaluation import check_batch_size, metric_lines
from vlmo_jax.evals.vqa_accuracy import Answered, question_accuracy, vqa_accuracy
from vlmo_jax.evals.vqa_server import PartialAnswersError, write_server_files
from vlmo_jax.input.answers import PEOPLE, AnswerTargets, question_answers
from vlmo_jax.input.attempts import needed_record, read_record
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.plain_images import thumbnail
from vlmo_jax.input.questions import EvalQuestions, QuestionRows
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.hits_and_misses import Shown, choose, hits_and_misses_page
from vlmo_jax.tasks.vqa import Answers


class Question(NamedTuple):
    """What a record says of one question; see `datasets.records.QuestionsRecord`."""

    question_id: str
    image_id: str
    question: str
    answers: tuple[str, ...]
    answer_type: str
    question_type: str


class Answering(NamedTuple):
    """A split with what a model answers.

    Attributes:
        questions: [N].
        predictions: [N], the likeliest answer to each.
        answers: the likeliest answers, numpy arrays [N, K].
        accuracies: float [N], NaN where nobody has answered.
    """

    questions: list[Question]
    predictions: list[str]
    answers: Answers
    accuracies: np.ndarray


class VqaEvaluator:
    """Asks a model every question of one split.

    Args:
        source: the examples of the split.
        tokenizer: of `load_tokenizer`.
        rows: sizes.
        targets: the answers that the model chooses from, and how those of people are looked up.
        name: what the result is called.
        batch_size: questions of a batch over all processes; a multiple of the batch shards of the
            mesh.
        mesh: the mesh of the job.
        loading: how batches are made.
        whole: how many questions the server wants of this split; None: it takes none of it.

    Raises:
        ValueError: a size is impossible, or there are no questions.
    """

    def __init__(
        self,
        source: ExampleSource,
        tokenizer: Tokenizer,
        rows: QuestionRows,
        targets: AnswerTargets,
        *,
        name: str,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        loading: Loading,
        whole: int | None,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.source = name, len(source), source
        self.targets, self.whole, self.image_size = targets, whole, rows.image_size
        self._maker = EvalQuestions(source, tokenizer, rows)
        self._run = functools.partial(
            answer_split,
            maker=self._maker,
            name=name,
            batch_size=batch_size,
            mesh=mesh,
            loading=loading,
            unit="questions",
        )

    @functools.cached_property
    def questions(self) -> list[Question]:
        """All questions in the order of the split; each record is read once."""
        return list(_read_questions(self.source))

    def evaluate(
        self, answer: Callable[[Any, Any], Answers], params: Any, step: int
    ) -> tuple[dict[str, float], Answering]:
        """Answers every question of the split, prints the result and returns it.

        Args:
            answer: of `tasks.vqa.make_answerer`.
            params: of the model.
            step: optimizer updates that made them, for messages.

        Returns:
            Of the questions that people have answered: accuracy, the official one, the same by type
            of answer (accuracy_yes_no, ...) and, of those with an answer in the list, soft_score,
            the target's score of the likeliest answer; all from 0 to 1, nothing where the answers
            are not public. And the answers.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        answers = self._run(lambda batch: answer(params, batch), step=step)
        predictions = [self.targets.answers[number] for number in answers.answer_ids[:, 0]]
        accuracies = np.array(
            [
                question_accuracy(question.answers, prediction) if question.answers else np.nan
                for question, prediction in zip(self.questions, predictions, strict=True)
            ]
        )
        answering = Answering(self.questions, predictions, answers, accuracies)
        metrics = self._score(answering)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(answering, metrics, step)))
        return metrics, answering

    def lines(self, answering: Answering) -> Iterator[dict[str, Any]]:
        """The predictions of the split, an object a question."""
        for row, question in enumerate(answering.questions):
            numbers, probabilities = (
                values[row].tolist()
                for values in (answering.answers.answer_ids, answering.answers.probability)
            )
            best = zip(numbers, probabilities, strict=True)
            line: dict[str, Any] = {
                "question_id": question.question_id,
                "image_id": question.image_id,
                "question": question.question,
                "answer": answering.predictions[row],
                "top": [[self.targets.answers[n], round(p, 6)] for n, p in best],
            }
            if question.answers:
                line |= {"answers": question.answers, "accuracy": float(answering.accuracies[row])}
            yield line

    def write_beside(self, answering: Answering, stem: Path) -> None:
        """Writes the answers as the evaluation server takes them; says why not, where it takes
        none of these and people have answered none.
        """
        ids = [question.question_id for question in answering.questions]
        try:
            path = write_server_files(
                stem,
                dict(zip(ids, answering.predictions, strict=True)),
                num_rows=len(ids),
                whole=self.whole,
                accuracies=official_accuracies(answering),
            )
        except PartialAnswersError as error:
            if not any(question.answers for question in answering.questions):
                announce(f"{self.name}: no file for the server is written: {error}")
        else:
            announce(f"{self.name}: the answers as the server takes them are in {path}")

    def draw(self, answering: Answering, page: Path) -> None:
        """Draws questions with what is answered."""

        def show(row: int) -> Shown:
            record, _ = self.source[row]
            question = answering.questions[row]
            known = not np.isnan(answering.accuracies[row])
            return Shown(
                images=[thumbnail(record.image, self.image_size)],
                text=question.question,
                said=answering.predictions[row],
                truth=_most_given(question.answers),
                right=bool(answering.accuracies[row] >= 0.5) if known else None,
            )

        rows = choose([None if np.isnan(a) else bool(a >= 0.5) for a in answering.accuracies])
        hits_and_misses_page([show(row) for row in rows], page, title=self.name)

    def _score(self, answering: Answering) -> dict[str, float]:
        scores = official_accuracies(answering)
        if not scores:
            return {}
        found = {"accuracy": scores["overall"] / 100}
        for name, percent in scores.items():
            kind, _, value = name.partition("/")
            if kind == "answer_type" and value:
                found[f"accuracy_{_as_word(value)}"] = percent / 100
        best = answering.answers.answer_ids[:, 0].tolist()
        soft = [
            worth.get(number, 0.0)
            for question, number in zip(answering.questions, best, strict=True)
            if (worth := self.targets.scores(question.answers))
        ]
        return found | ({"soft_score": float(np.mean(soft))} if soft else {})

    def _describe(
        self, answering: Answering, metrics: Mapping[str, float], step: int
    ) -> Iterator[str]:
        answered = [question for question in answering.questions if question.answers]
        images = len({question.image_id for question in answering.questions})
        said = f"{self.name} at step {step}: {self.num_records:,} questions about {images:,} images"
        if not answered:
            yield f"{said}; their answers are not public: there are predictions, and no scores"
            return
        if len(answered) < self.num_records:
            said += f", {len(answered):,} of them with answers"
        official = all(len(question.answers) == PEOPLE for question in answered)
        yield (
            f"{said}; {'official accuracy' if official else 'accuracy of other than ten answers'};"
            f" targets matched {self.targets.matching!r}"
        )
        yield from metric_lines(metrics)


def _as_word(value: str) -> str:
    """A type of answers as part of a metric's name: "yes/no" -> yes_no."""
    return "_".join("".join(c if c.isalnum() else " " for c in value).split()) or "unnamed"


def official_accuracies(answering: Answering) -> dict[str, float]:
    """Percentages of `vqa_accuracy` of the questions that people have answered; {} where there are
    none.
    """
    pairs = zip(answering.questions, answering.predictions, strict=True)
    answered = [
        Answered(question.question_type, question.answer_type, question.answers, prediction)
        for question, prediction in pairs
        if question.answers
    ]
    return vqa_accuracy(answered) if answered else {}


def _read_questions(source: ExampleSource) -> Iterator[Question]:
    texts = TextsOnly(source.records)
    for index in range(len(texts)):
        with needed_record(index):
            record = read_record(texts, index)
        fields = (
            record.question_ids,
            itertools.repeat(record.image_id),
            record.questions,
            question_answers(record),
            record.answer_types,
            record.question_types,
        )
        yield from map(Question, *fields)


def _most_given(answers: tuple[str, ...]) -> str:
    return max(answers, key=answers.count) if answers else ""
