"""Each kind of value takes what it should and refuses the rest, naming the field."""

import math

import numpy as np
import pytest

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.fields import (
    Choice,
    Extra,
    Flag,
    Number,
    Regex,
    Rule,
    Several,
    Text,
    Whole,
    check_fields,
)

RATES = Several(Number(low=0, below=1), 2, "two numbers in [0, 1)")
RULES = Several(Rule(Number(low=0)))


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (Whole(above=0), (1, np.int64(3), 2**31 - 1), (0, True, 1.0, "1", None, 2**31, 10**400)),
        (Whole(low=0, high=2**32 - 1), (0, 2**32 - 1), (-1, 2**32)),
        (
            Number(above=0),
            (1, 0.5, np.float32(2), 1e-30),
            (0.0, -1, math.nan, math.inf, 1e39, 1e-46, 10**400, True, "1", None),
        ),
        (Number(low=0, below=1), (0, 0.999), (1, 0.999999999, -1e-3)),
        (Flag(), (True, False), (0, 1, "true", None)),
        (Text(), ("a", "日本語"), ("", " ", "a\0b", "a\nb", "x" * 5000, None, 3)),
        (Text(optional=True), ("", None, "a"), (3, "x" * 5000)),
        (Choice(("a", "b")), ("a",), ("c", None, [], ("a",))),
        (Regex(), (".*", "a(b)"), ("(", "*", "a**", 3, None)),
        (RATES, ((0, 0.9), [0.1, 0.2]), ((), (0.1,), (0.1, math.nan), (0.1, 1), "ab", 3, None)),
        (RULES, ((), ((".*", 2),)), ((".*", 2), (("(", 2),), ((".*", "x"),), ((".*",),))),
        (Several(Text(), distinct=True), (("a", "b"),), (("a", "a"), "a")),
    ],
)
def test_what_may_stand_in_a_field(kind, good, bad):
    for value in good:
        kind.check("part.field", value)
    for value in bad:
        with pytest.raises(ConfigError, match=r"^config\.part\.field") as refused:
            kind.check("part.field", value)
        assert "\n" not in str(refused.value)


def test_lists_of_rules_say_which_entry():
    with pytest.raises(ConfigError, match=r"config.frozen\[1\]='\(' is not a regular expression"):
        Several(Regex()).check("frozen", ("a", "("))
    with pytest.raises(ConfigError, match=r"config.rates\[0\]\[1\]=-1 must be 0 or more"):
        RULES.check("rates", ((".*", -1),))


def test_parts_have_their_fields_and_no_others():
    fields = {"a": Whole(), "b": Extra(Flag())}
    check_fields("part", {"a": 1}, fields, closed=True)
    check_fields("part", {"a": 1, "c": 3}, fields)
    with pytest.raises(ConfigError, match="config.part.a is missing"):
        check_fields("part", {"b": True}, fields)
    with pytest.raises(ConfigError, match="config.part.c is not known; config.part has a, b"):
        check_fields("part", {"a": 1, "c": 3}, fields, closed=True)
    with pytest.raises(ConfigError, match="config.part.b=1 must be True or False"):
        check_fields("part", {"a": 1, "b": 1}, fields)


@pytest.mark.parametrize("regex", ["(.*)*x", "([a-z_]+/?)+#"])
def test_regexes_that_would_hang_are_refused(regex):
    with pytest.raises(ConfigError, match=r"config.optimizer.frozen\[0\]=.* takes for ever"):
        Regex().check("optimizer.frozen[0]", regex)
    Regex().check("optimizer.frozen[0]", r"transformer/(lower|upper)/(\w+/)*\w+")
