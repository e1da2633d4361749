"""The kinds of odd input: name -> function of a numpy Generator that draws one Case."""

from collections.abc import Callable

import numpy as np

from tests.fuzz import checkpoints
from tests.fuzz.case import Case

AREAS: dict[str, Callable[[np.random.Generator], Case]] = {
    "checkpoints": checkpoints.draw,
}
