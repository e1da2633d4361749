"""A few of the odd inputs of each kind; `python -m tests.fuzz` tries thousands."""

import numpy as np
import pytest

from tests.fuzz.areas import AREAS
from tests.fuzz.case import try_case


@pytest.mark.parametrize("area", AREAS)
def test_odd_inputs_are_read_right_or_refused_in_one_line(area):
    for seed in range(25):
        case = AREAS[area](np.random.default_rng(seed))
        outcome = try_case(case)
        assert outcome.good, f"{outcome.kind}: {case.name}: {outcome.text}; seed {seed}"
