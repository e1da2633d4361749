import numpy as np
import pytest

from tests.fuzz.areas import AREAS
from tests.fuzz.case import try_case


@pytest.mark.parametrize("area", AREAS)
def test_odd_inputs_are_read_right_or_refused(area):
    cases = [AREAS[area](np.random.default_rng(seed)) for seed in range(25)]
    outcomes = [(case.name, try_case(case)) for case in cases]
    assert [(name, outcome) for name, outcome in outcomes if not outcome.good] == []
