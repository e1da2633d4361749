"""Which record stands where in the endless training stream, and the randomness of each place."""

import grain
import numpy as np

_MAX_SEED = 2**32 - 1


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

    def __getitem__(self, position: int) -> int:
        """Returns the number of the record at a position, 0 or more, of the stream."""
        return self._order[position]


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
