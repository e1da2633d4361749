"""Tensors that are made of others when they are asked for: parts of one, or several joined."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np


class MadeTensors(Mapping[str, np.ndarray]):
    """Tensors by name, none of which is held.

    Args:
        makers: name -> function that gives the tensor.
    """

    def __init__(self, makers: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def joined(tensors: Mapping[str, np.ndarray], names: Iterable[str]) -> np.ndarray:
    """One tensor of those of some names, on the first axis; of a single name the tensor itself."""
    parts = [tensors[name] for name in names]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
