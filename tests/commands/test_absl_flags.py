"""Help that is asked for is no failure, and a flag that cannot be is one line."""

import pytest
from absl import app, flags

from vlmo_jax.commands.absl_flags import parse_in_one_line
from vlmo_jax.commands.command_line import parse_flags

PARSERS = pytest.mark.parametrize("parse", [parse_flags, parse_in_one_line])


@PARSERS
def test_help_ends_well(monkeypatch, capsys, parse):
    values = flags.FlagValues()
    flags.DEFINE_integer("rows", 3, "How many.", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    flags.DEFINE_flag(app.HelpFlag(), flag_values=values)
    with pytest.raises(SystemExit) as ended:
        parse(["command", "--help"])
    assert ended.value.code == 0 and capsys.readouterr().out


@PARSERS
def test_a_flag_that_cannot_be_is_one_line(monkeypatch, parse):
    values = flags.FlagValues()
    flags.DEFINE_integer("rows", 3, "How many.", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    assert parse(["command", "--rows=4", "rest"]) == ["command", "rest"] and values.rows == 4
    for wrong in ("--rows=many", "--row=3"):
        with pytest.raises(
            SystemExit, match=f"^error: .*{wrong.split('=')[0].strip('-')}"
        ) as ended:
            parse(["command", wrong])
        assert "\n" not in str(ended.value.code)
