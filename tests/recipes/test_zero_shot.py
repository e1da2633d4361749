"""The zero-shot evaluation of a recipe: its classes, what its results are about, and refusals."""

import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe

SPLIT = ("evals.zero_shot.splits=('unseen_artist[:200]',)", "data.split=train[:8]")


def opened(*settings):
    part = Recipe(tiny.parse("clip:tiny", *SPLIT, *settings)).evaluations["zero_shot"]
    part.check(1)
    part.open()
    return part


def test_classes_of_groups_and_what_the_results_are_about():
    part = opened()
    assert part.facts("emoji_unseen_artist[:200]") == {
        "protocol": "zero-shot classification by group, averaged vectors of templates 'drawings'",
        "images": 200,
        "classes": 2,
        "templates": 6,
    }


def test_names_of_a_file_are_the_classes(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("people-body\tperson\tbody\nsmileys-emotion\tface\nflags\tflag\n")
    assert (
        opened(f"evals.zero_shot.names={names}").facts("emoji_unseen_artist[:200]")["classes"] == 3
    )
    names.write_text("flags\tflag\n")
    with pytest.raises(ConfigError, match=r"config.evals.zero_shot.names=.*classes have no name"):
        opened(f"evals.zero_shot.names={names}")


@pytest.mark.parametrize(
    "setting, message",
    [
        ("evals.zero_shot.classes=colour", "use one of folder, group, subgroup, text"),
        ("evals.zero_shot.templates=gone.txt", "neither a file nor one of plain, photos, drawings"),
        ("evals.zero_shot.classes=folder", "finds one class alone, 'twemoji'"),
        ("model.heads=('vqa',)", "lacks"),
    ],
)
def test_refusals_name_the_field(setting, message):
    with pytest.raises(ConfigError, match=message) as error:
        opened(setting)
    assert "\n" not in str(error.value)
