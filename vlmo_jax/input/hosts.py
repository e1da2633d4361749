"""Which rows of a batch a host makes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Host:
    """One of the hosts of a job, each of which makes an equal slice of the rows of every batch.

    Args:
        index: which one.
        count: of how many.

    Raises:
        ValueError: there is no such host.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"host_count={self.count} must be at least 1")
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"host_index={self.index} must be 0 to host_count - 1 = {self.count - 1}"
            )

    def rows_of(self, batch_size: int) -> int:
        """Returns how many rows of a batch this host makes.

        Args:
            batch_size: rows of a batch over all hosts.

        Raises:
            ValueError: the batch does not divide over the hosts.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        if batch_size % self.count:
            raise ValueError(
                f"batch_size={batch_size} does not divide over host_count={self.count} hosts; use a"
                f" multiple of {self.count}"
            )
        return batch_size // self.count

    def positions(self, number: int, batch_size: int) -> range:
        """Returns the places in the stream of all rows that this host makes of batch `number`."""
        rows = self.rows_of(batch_size)
        start = number * batch_size + self.index * rows
        return range(start, start + rows)

    def positions_below(self, total: int, number: int, batch_size: int) -> range:
        """Returns those of `positions` that are below `total`: fewer or none in the last batch."""
        positions = self.positions(number, batch_size)
        return range(min(positions.start, total), min(positions.stop, total))


ALONE = Host()
