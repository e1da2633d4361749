"""What is said of processes that were not started alike."""

import pytest

from vlmo_jax.parallel.agreement import agree, any_process, describe_differences, together


def test_who_differs_in_what_is_said():
    alike = {"config.seed": 0, "config.steps": 5}
    assert describe_differences(
        [alike, {**alike, "config.seed": 3}, alike, {"config.seed": 3}]
    ) == (
        "config.seed is 0 on process 0 and 3 on processes 1, 3; config.steps is 5 on process 0 and"
        " None on process 3"
    )
    assert describe_differences([alike, alike]) == ""
    many = [{f"field {n}": value for n in range(9)} for value in (0, 1)]
    assert describe_differences(many).endswith(
        "field 3 is 0 on process 0 and 1 on process 1, and 5 more"
    )


def test_one_process_agrees_with_itself():
    agree({"config.seed": 0})
    assert any_process(True) and not any_process(False)
    with pytest.raises(ZeroDivisionError), together("divide"):
        _ = 1 / 0
