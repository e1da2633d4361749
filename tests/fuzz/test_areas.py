"""A few odd inputs of every kind are read right or refused in one line; the command tries more."""

import numpy as np
import pytest

from tests.fuzz.areas import AREAS
from tests.fuzz.case import try_case

COUNT = 25


@pytest.mark.parametrize("area", AREAS)
def test_odd_inputs_are_read_right_or_refused(area):
    bad = []
    for seed in range(COUNT):
        case = AREAS[area](np.random.default_rng(seed))
        outcome = try_case(case)
        if not outcome.good:
            bad.append(f"{seed}: {outcome.kind}: {case.name}: {outcome.text}")
    assert not bad, "\n".join(bad)
