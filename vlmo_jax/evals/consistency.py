"""Accuracy and consistency of NLVR2: the shares of right sentences, and of sentences that are right
for all their pairs of images.
"""

import collections
from collections.abc import Mapping

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
    groups = collections.defaultdict(list)
    for identifier, label in labels.items():
        split, group, _, sentence = identifier.split("-")
        groups[split, group, sentence].append(predictions[identifier].lower() == label.lower())
    right = [correct for group in groups.values() for correct in group]
    return {
        "accuracy": sum(right) / len(right),
        "consistency": sum(map(all, groups.values())) / len(groups),
    }
