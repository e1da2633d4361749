"""What the document about fine-tuning says of the published rows is what their recipes are."""

import re

import pytest

from tests import tiny
from tests.paths import ROOT
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.recipes import Recipe

PEAK, SHARE = 989e12, 0.4  # of the document
ROW = re.compile(
    r"^\| [^|]+ \| [^|]+ \| `(finetune_\w+:[\w,]+)` \| [^|]+"
    r" \| ([\d,]+) x ([\d,]+) \| ([\d,]+) \| ([\d.]+) \|$",
    re.MULTILINE,
)
ROWS = ROW.findall((ROOT / "docs" / "FINETUNING.md").read_text())


def number(text):
    return float(text.replace(",", ""))


def test_there_are_three_sizes_of_four_tasks():
    assert len({row[0] for row in ROWS}) == 12


@pytest.mark.parametrize("name, steps, batch, petaflops, hours", ROWS)
def test_rows_are_their_recipes(name, steps, batch, petaflops, hours):
    config = tiny.parse(name)
    assert (config.steps, config.batch_size) == (number(steps), number(batch))
    forward = Recipe(config).forward_flops()
    total = TRAINING_FACTOR * forward * config.batch_size * config.steps
    assert number(petaflops) == pytest.approx(total / 1e15, abs=0.51)
    assert number(hours) == pytest.approx(total / (PEAK * SHARE) / 3600, abs=0.051)
