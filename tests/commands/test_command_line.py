"""Values of the command line, and recipes that cannot be loaded, are refused in one line."""

import pytest

from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.config_errors import ConfigError


def refusal(recipe, **settings):
    with pytest.raises(ConfigError) as refused:
        read_config(str(recipe), {key.replace("__", "."): text for key, text in settings.items()})
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "field, text, message",
    [
        ("steps", "1e3", "--config.steps=1e3: must be a whole number"),
        ("optimizer__learning_rate", "x", "--config.optimizer.learning_rate=x: must be a number"),
        ("data__flip", "maybe", "--config.data.flip=maybe: must be true or false"),
        ("data__mean", "1 2", "--config.data.mean=1 2: must be values in brackets"),
        ("stepz", "1", 'Did you mean "steps" instead of "stepz"?'),
    ],
)
def test_values_that_are_none_of_the_field(field, text, message):
    assert message in refusal("stage3", **{field: text})


def test_a_tuple_given_twice_is_the_last_one():
    from absl import flags

    from vlmo_jax.commands.command_line import _define_config

    line = ["", "--config=stage3", *(f"--config.data.crop_scale=({n},1)" for n in (0.2, 0.4))]
    values = flags.FlagValues()
    config = _define_config(values, line)
    values(line)
    assert config.value.data.crop_scale == (0.4, 1)


def test_an_empty_tuple_is_none():
    assert read_config("stage3:base", {"data.randaugment": ""}).data.randaugment == ()


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n    pass", "own.py, line 1: invalid syntax"),
        ("x = 1", "own.py has no function get_config"),
        (
            "def get_config():\n    return 1 / 0",
            "own.py, line 2: ZeroDivisionError: division by zero",
        ),
        ("def get_config():\n    raise ValueError('a\\nb')", "own.py, line 2: ValueError: a b"),
        ("def get_config():\n    return {}", "own.py: get_config returns a dict, not a ConfigDict"),
        ("import nothing_here", "own.py, line 1: ModuleNotFoundError"),
        ("raise SystemExit(3)", "own.py, line 1: SystemExit: 3"),
    ],
)
def test_recipes_that_cannot_be_loaded(tmp_path, text, message):
    file = tmp_path / "own.py"
    file.write_text(text)
    assert message in refusal(file)


def test_a_size_that_a_recipe_has_not_is_told_in_its_own_words():
    assert refusal("stage3:huge") == (
        "--config=stage3:huge: configs/stage3.py:huge: size 'huge' is unknown; use one of tiny,"
        " tiny_long, base, base_plus, large"
    )


def test_folders_and_names_that_are_no_files(tmp_path):
    for name in (tmp_path, "stage3\0", "x" * 5000 + "/", ""):
        assert "there is no recipe" in refusal(name)
