"""What a model is to answer: answers of people as scores of those that it chooses from."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from vlmo_jax.commands.config_errors import one_of
from vlmo_jax.datasets.records import QuestionsRecord
from vlmo_jax.datasets.vqa_answers import answer_score, soft_targets, vocabulary_form

# How an answer of people is looked up in the vocabulary, which holds normal forms: as it was typed,
# as all published models do, or in its normal form.
MATCHINGS = ("official", "normalised")
PEOPLE = 10  # that answer a question of VQAv2


@dataclasses.dataclass(frozen=True)
class AnswerTargets:
    """Soft targets of questions.

    Args:
        answers: by id, those that the model chooses from.
        matching: one of MATCHINGS.
    """

    answers: tuple[str, ...]
    matching: str = "official"

    def __post_init__(self) -> None:
        one_of("data.answer_matching", self.matching, MATCHINGS)

    @functools.cached_property
    def _ids(self) -> Mapping[str, int]:
        return {answer: number for number, answer in enumerate(self.answers)}

    def scores(self, answers: Sequence[str]) -> dict[int, float]:
        """What the answers of people to a question are worth.

        Args:
            answers: as they were typed. Of other than ten people the counts are taken for as many
                of ten: the only answer of one person scores 1.

        Returns:
            id -> score in (0, 1], the highest first; empty where the vocabulary has none of them.
        """
        if self.matching == "normalised":
            answers = [vocabulary_form(answer) for answer in answers]
        if len(answers) == PEOPLE or not answers:
            found = soft_targets(answers, self._ids)
        else:
            found = {
                self._ids[answer]: share_score(list(answers).count(answer), len(answers))
                for answer in dict.fromkeys(answers)
                if answer in self._ids
            }
        ordered = sorted(found.items(), key=lambda item: -item[1])
        return {number: score for number, score in ordered if score}

    def answerable(self, record: QuestionsRecord) -> list[bool]:
        """Of each question of a record whether the vocabulary has one of its answers."""
        return [bool(self.scores(answers)) for answers in question_answers(record)]


def share_score(count: int, people: int) -> float:
    """The score of an answer that `count` of any number of people gave."""
    return answer_score(max(1, round(PEOPLE * count / people))) if count else 0.0


def question_answers(record: QuestionsRecord) -> list[tuple[str, ...]]:
    """The answers of people to each question of a record."""
    answers, start = [], 0
    for count in record.num_answers.tolist():
        answers.append(record.answers[start : start + count])
        start += count
    return answers
