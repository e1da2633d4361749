"""Which record stands where in the endless training stream, and the randomness of each place."""

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import grain
import numpy as np

_MAX_SEED = 2**32 - 1
_BLOCK = 64  # places of a mixture within which its members come in random order


class Order(Protocol):
    """An endless stream of record numbers; can be pickled."""

    def __getitem__(self, position: int) -> int:
        """Returns the number of the record at a position, 0 or more, of the stream."""

    def epoch(self, position: int) -> int:
        """Returns how often the stream has had all of the records among which that at a position
        is drawn.
        """

    def records_with(self, index: int) -> range:
        """Returns the numbers of the records of the set that a record is of."""


class RecordOrder:
    """An endless stream of record numbers, each record once an epoch, shuffled anew every epoch.

    Any position is found in constant time and memory, so a run can start anywhere.

    Args:
        num_records: how many records there are, at least 1.
        seed: 0 to 2**32 - 1.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, num_records: int, seed: int) -> None:
        if num_records < 1:
            raise ValueError(
                "the training data has no records; give a data set and a split that have some"
            )
        if not 0 <= seed <= _MAX_SEED:
            raise ValueError(f"seed={seed} is out of range; use 0 to {_MAX_SEED}")
        # Grain shuffles epoch e with seed + e: hashed, so that run 0 does not replay as its second
        # epoch the first of run 1.
        shuffle_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self._order = grain.MapDataset.range(num_records).shuffle(seed=shuffle_seed).repeat()
        self._num_records = num_records

    def __getitem__(self, position: int) -> int:
        """Returns the number of the record at a position, 0 or more, of the stream."""
        return self._order[position]

    def epoch(self, position: int) -> int:
        """See `Order`."""
        return position // self._num_records

    def records_with(self, index: int) -> range:
        """See `Order`."""
        return range(self._num_records)


class MixedOrder:
    """An endless stream of the record numbers of several sets that follow each other, each set with
    a share of its own.

    Each set has epochs of its own: all its records come once, shuffled, before one comes again. Of
    every 64 places a set has its share, give or take as many places as there are sets; their order
    is random. Any position is found in constant time and memory, so a run can start anywhere.

    Args:
        sizes: records of each set, at least 1.
        weights: of each set, above 0; the shares are proportional to them.
        seed: 0 to 2**32 - 1.

    Raises:
        ValueError: a number is out of range, or there are not as many weights as sets.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        if len(sizes) != len(weights):
            raise ValueError(f"{len(sizes)} data sets need as many weights, not {len(weights)}")
        if not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"weights={tuple(weights)} must be numbers above 0")
        seeds = np.random.SeedSequence(seed).generate_state(len(sizes))
        self._orders = [RecordOrder(size, int(own)) for size, own in zip(sizes, seeds, strict=True)]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._weights = _whole_numbers(weights)
        self._seed = seed

    def __getitem__(self, position: int) -> int:
        """Returns the number of the record at a position, 0 or more, of the stream."""
        member, place = self._find(position)
        return self._starts[member] + self._orders[member][place]

    def epoch(self, position: int) -> int:
        """See `Order`."""
        member, place = self._find(position)
        return self._orders[member].epoch(place)

    def records_with(self, index: int) -> range:
        """See `Order`."""
        member = bisect.bisect_right(self._starts, index) - 1
        return range(self._starts[member], self._starts[member + 1])

    def _find(self, position: int) -> tuple[int, int]:
        """Which set has a position, and as which of its places."""
        number, offset = divmod(position, _BLOCK)
        block = _mix_block(self._weights, self._seed, number)
        return int(block.members[offset]), int(block.places[offset])


def count_places(weights: Sequence[float], places: int) -> list[int]:
    """Returns how many of the first places of a mixture each of its sets has, exactly where 64
    divides their number.

    Args:
        weights: as of `MixedOrder`.
        places: from the first of the stream on.
    """
    return _counts(_whole_numbers(weights), places)


def _whole_numbers(weights: Sequence[float]) -> tuple[int, ...]:
    """Whole numbers with exactly the same ratios."""
    fractions = [Fraction(weight) for weight in weights]
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    return tuple(int(fraction * denominator) for fraction in fractions)


def _counts(weights: Sequence[int], places: int) -> list[int]:
    """The places of each set among the first ones: each set takes its share of what those before
    it leave, rounded up. One place more is one more for one of them.
    """
    counts, weight_left = [], sum(weights)
    for weight in weights:
        counts.append(-(-places * weight // weight_left))
        places, weight_left = places - counts[-1], weight_left - weight
    return counts


class _Block(NamedTuple):
    """Some consecutive places of a mixture.

    Attributes:
        members: int64 [_BLOCK], which set has each.
        places: int64 [_BLOCK], which place of that set's own stream it is.
    """

    members: np.ndarray
    places: np.ndarray


@functools.lru_cache(maxsize=256)
def _mix_block(weights: tuple[int, ...], seed: int, number: int) -> _Block:
    before, after = (_counts(weights, (number + i) * _BLOCK) for i in (0, 1))
    members = np.repeat(np.arange(len(weights)), np.subtract(after, before))
    np.random.Generator(np.random.Philox(key=[seed, 1], counter=[0, 0, 0, number])).shuffle(members)
    places = np.empty(_BLOCK, np.int64)
    for member, begin in enumerate(before):
        own = np.flatnonzero(members == member)
        places[own] = begin + np.arange(len(own))
    return _Block(members, places)


def example_rng(seed: int, position: int, attempt: int = 0) -> np.random.Generator:
    """Returns the source of all randomness of one example, the same on every host, worker and
    thread.

    Args:
        seed: of the run.
        position: of the example in the training stream.
        attempt: 0, or how many records drawn for this position have turned out broken.

    Returns:
        A generator of its own: Philox with the seed as key, and position and attempt in the upper
        half of the counter.
    """
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, 0, attempt, position]))
