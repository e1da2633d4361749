"""What a reader has found so far: numbers a split, and what it left out."""

import collections
from collections.abc import Mapping


class Findings:
    """Counts and things left out; starts empty."""

    def __init__(self) -> None:
        self._counts: dict[str, collections.Counter[str]] = {}
        self.left_out: dict[str, str] = {}

    def add(self, split: str, numbers: Mapping[str, int]) -> None:
        """Adds numbers to those of a split, by what they count."""
        self._counts.setdefault(split, collections.Counter()).update(numbers)

    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {what: number}}; what was never found is left out."""
        return {
            split: {what: number for what, number in counter.items() if number}
            for split, counter in self._counts.items()
        }
