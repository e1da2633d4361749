"""Which checkpoint an evaluation alone scores; that it scores it right is in test_main.py."""

import numpy as np
import pytest

from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.training.evaluate import _choose_checkpoint


@pytest.mark.parametrize(
    "init_from, chosen",
    [
        (None, "run"),
        ("", "run"),
        ("none", "run"),
        ("runs/stage2", "run"),  # the command that made the run, with mode=eval added
        ("runs/other", "runs/other"),
    ],
)
def test_the_run_itself_is_evaluated_where_init_from_is_what_it_started_from(
    tmp_path, init_from, chosen
):
    save_params(
        tmp_path / "checkpoints",
        {"weight": np.zeros(2, np.float32)},
        {"config": {"init_from": "runs/stage2"}},
    )
    assert _choose_checkpoint(init_from, tmp_path) == (tmp_path if chosen == "run" else chosen)
    assert _choose_checkpoint("runs/stage2", tmp_path / "empty") == "runs/stage2"
