"""The official accuracy of VQAv2."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets.vqa_answers import normal_form
from vlmo_jax.input.answers import PEOPLE, share_score


class Answered(NamedTuple):
    """A question with what people and the model answered.

    Attributes:
        question_type: such as "what color is the".
        answer_type: "yes/no", "number" or "other".
        answers: ten, as they were typed.
        prediction: of the model.
    """

    question_type: str
    answer_type: str
    answers: tuple[str, ...]
    prediction: str


def question_accuracy(answers: Sequence[str], prediction: str) -> float:
    """The accuracy of one prediction, 0 to 1: the mean over the ten people of min(1, a third of
    how many of the other nine agree with it).

    All is brought to normal form first, but not where all people typed the same: there a prediction
    must be it to the letter. Where other than ten have answered, nothing is official: normal forms
    are compared, and how many agree is taken for as many of ten.

    Args:
        answers: of people, as they were typed.
        prediction: of the model.

    Source: VQA evaluation code.
    """
    given, answer = [_on_one_line(text) for text in answers], _on_one_line(prediction)
    if len(given) != PEOPLE:
        agreeing = [normal_form(text) for text in given].count(normal_form(answer))
        return share_score(agreeing, len(given))
    if len(set(given)) > 1:
        given, answer = [normal_form(text) for text in given], normal_form(answer)
    agree = np.array([text == answer for text in given])
    return float(np.minimum(1.0, (agree.sum() - agree) / 3).mean())


def _on_one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def vqa_accuracy(questions: Iterable[Answered]) -> dict[str, float]:
    """Accuracies of a split in percent, rounded to 2 decimals as they are published.

    Args:
        questions: at least one.

    Returns:
        {"overall": ..., "answer_type/yes/no": ..., "question_type/what color is the": ...}.

    Raises:
        ValueError: there are no questions.
    """
    scores = collections.defaultdict(list)
    for question in questions:
        accuracy = question_accuracy(question.answers, question.prediction)
        for name in (
            "overall",
            f"answer_type/{question.answer_type}",
            f"question_type/{question.question_type}",
        ):
            scores[name].append(accuracy)
    if not scores:
        raise ValueError("there are no questions to score")
    return {name: round(100 * float(np.mean(values)), 2) for name, values in scores.items()}
