"""Accuracy and consistency of NLVR2: the shares of right sentences, and of sentences that are right
for all their pairs of images.
"""

import collections
from collections.abc import Iterable, Mapping, Sequence

from vlmo_jax.commands.endings import UserError


class MissingPredictionsError(UserError, ValueError):
    """Examples without a prediction: no figure would be that of the split.

    Attributes:
        missing: their identifiers.
    """

    def __init__(self, missing: list[str]) -> None:
        some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        super().__init__(f"{len(missing)} examples have no prediction: {some}")
        self.missing = missing


def accuracy_and_consistency(
    labels: Mapping[str, str], predictions: Mapping[str, str]
) -> dict[str, float]:
    """Scores the predictions of a split.

    Args:
        labels: identifier such as "dev-0-1-2" (split, set, pair, sentence) -> "True" or "False".
        predictions: identifier -> word; the letters' case does not matter, other words are wrong,
            and so is a blank beside it. Identifiers without a label are passed over.

    Returns:
        {"accuracy": ..., "consistency": ...}, shares from 0 to 1.

    Raises:
        ValueError: there are no labels.
        MissingPredictionsError: some have no prediction.

    Source: evaluation code of NLVR2.
    """
    if not labels:
        raise ValueError("there are no examples to score")
    if missing := [identifier for identifier in labels if identifier not in predictions]:
        raise MissingPredictionsError(missing)
    right = [predictions[name].lower() == label.lower() for name, label in labels.items()]
    return {
        "accuracy": sum(right) / len(right),
        "consistency": share_of_right_groups(right, map(group_of, labels)),
    }


def group_of(identifier: str) -> str:
    """The group of an official identifier, whose statements share a sentence: "dev-0-1-2" ->
    "dev-0-*-2".
    """
    split, group, _, sentence = identifier.split("-")
    return f"{split}-{group}-*-{sentence}"


def share_of_right_groups(right: Sequence[bool], groups: Iterable[str]) -> float:
    """The share of groups all of whose members are right.

    Args:
        right: of each example, whether its prediction is; at least one.
        groups: as many names.
    """
    members = collections.defaultdict(list)
    for group, correct in zip(groups, right, strict=True):
        members[group].append(correct)
    return sum(map(all, members.values())) / len(members)
