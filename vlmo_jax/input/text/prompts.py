"""Texts that stand for classes: names in templates, such as "a photo of a cat"."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path

PLACE = "{}"  # of the name in a template

# Templates by name; a file has one a line.
TEMPLATES = {
    "plain": ("{}",),
    "photos": (
        "a photo of a {}",
        "a photo of the {}",
        "a picture of one {}",
        "a close view of a {}",
        "a {} seen from afar",
        "a blurred photo of a {}",
        "a dark photo of a {}",
        "a bright photo of a {}",
        "a small {}",
        "a large {}",
        "many of {}",
        "a {} among other things",
    ),
    "drawings": (
        "{}",
        "a drawing of a {}",
        "a drawing of {}",
        "a simple picture of {}",
        "a sign for {}",
        "an emoji of {}",
    ),
}


class LabelsError(UserError, ValueError):
    """Labels, names or templates that make no texts."""


def fill_templates(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """The texts of all labels: those of the first in all templates, then those of the second.

    Raises:
        LabelsError: there is none, or a template has no place for the label.
    """
    if isinstance(labels, str) or not len(labels):
        raise LabelsError(f"labels={labels!r}: give a list with at least one label")
    if isinstance(templates, str) or not len(templates):
        raise LabelsError(f"templates={templates!r}: give a list, such as ['a photo of {{}}']")
    for template in templates:
        if PLACE not in template:
            raise LabelsError(
                f"template {template!r} has no place for the label; write {{}} where it goes"
            )
    return [template.replace(PLACE, label) for label in labels for template in templates]


def read_templates(name: str) -> tuple[str, ...]:
    """The templates of a list in TEMPLATES, or of a file with one a line.

    Raises:
        FileNotFoundError: there is no such list and no such file.
        LabelsError: a template has no place for the name, or there is none.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = user_path(name)
    if not path.is_file():
        raise MissingTemplatesError(
            f"templates={name!r} is neither a file nor one of {', '.join(TEMPLATES)}"
        )
    lines = _lines_of(path)
    for number, line in lines:
        if PLACE not in line:
            raise LabelsError(
                f"{path} line {number}: {line[:60]!r} has no place for the name; write {{}} where"
                " it goes"
            )
    if not lines:
        raise LabelsError(f"{path} holds no template; write one a line, with {{}} for the name")
    return tuple(line for _, line in lines)


class MissingTemplatesError(LabelsError, FileNotFoundError):
    """There are no such templates, or no such file of names."""


def read_names(path: str) -> dict[str, tuple[str, ...]]:
    """The names of classes: a JSON object {class: name or list of names}, or lines of a class, a
    tab and its names with tabs between.

    Args:
        path: of the file.

    Returns:
        Class, as its folder is called, -> its names.

    Raises:
        FileNotFoundError: there is no such file.
        LabelsError: a line or an entry is something else, or a class comes twice.
    """
    file = user_path(path)
    if not file.is_file():
        raise MissingTemplatesError(f"names={path!r}: there is no such file")
    if file.suffix == ".json":
        return _names_of_json(file)
    names: dict[str, tuple[str, ...]] = {}
    for number, line in _lines_of(file):
        label, *its = (part.strip() for part in line.split("\t"))
        if not label or not its or not all(its) or label in names:
            why = "comes twice" if label in names else "has no name"
            raise LabelsError(
                f"{file} line {number}: class {label[:60]!r} {why}; write the class, a tab and its"
                " name a line"
            )
        names[label] = tuple(its)
    if not names:
        raise LabelsError(f"{file} names no class; write the class, a tab and its name a line")
    return names


def _names_of_json(file: Any) -> dict[str, tuple[str, ...]]:
    try:
        told = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise LabelsError(f"{file} is no JSON: {error}") from error
    listed = told if isinstance(told, dict) else {}
    names = {
        label: (value,) if isinstance(value, str) else tuple(value)
        for label, value in listed.items()
        if isinstance(value, str | list)
    }
    wrong = [label for label in listed if not _all_texts(names.get(label, ()))]
    if not names or wrong:
        raise LabelsError(
            f"{file}: {wrong[0] if wrong else 'nothing'!r} has no name; write"
            ' {"class": "name", "class": ["name", "name"]}'
        )
    return names


def _all_texts(names: Sequence[Any]) -> bool:
    return bool(names) and all(isinstance(name, str) and name.strip() for name in names)


def _lines_of(path: Any) -> list[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise LabelsError(f"{path} is not UTF-8: {error}; save it so") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def names_of(
    classes: Sequence[str], names: Mapping[str, Sequence[str]] | None
) -> list[tuple[str, ...]]:
    """The names of each class: those that are given, or the class itself with blanks for "-" and
    "_".

    Args:
        classes: as their folders are called.
        names: of `read_names`, or None.

    Raises:
        LabelsError: a class has no name among those that are given.
    """
    if names is None:
        return [(" ".join(label.replace("_", " ").replace("-", " ").split()),) for label in classes]
    if missing := [label for label in classes if label not in names]:
        raise LabelsError(
            f"{len(missing):,} classes have no name, such as {missing[0]!r}; the names are of"
            f" {', '.join(map(repr, list(names)[:5]))} and so on"
        )
    return [tuple(names[label]) for label in classes]
