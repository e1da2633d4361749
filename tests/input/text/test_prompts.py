"""Names in templates: lists, files, and what is refused in them by line."""

import pytest

from vlmo_jax.input.text.prompts import (
    TEMPLATES,
    LabelsError,
    fill_templates,
    names_of,
    read_names,
    read_templates,
)


def test_every_list_has_places_and_no_template_twice():
    for templates in TEMPLATES.values():
        assert fill_templates(["x"], templates) and len(set(templates)) == len(templates)


def test_files_of_templates(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("a photo of {}\n\n  {}, twice {}\n")
    assert read_templates(str(path)) == ("a photo of {}", "{}, twice {}")
    assert fill_templates(["a cat"], read_templates(str(path)))[1] == "a cat, twice a cat"
    path.write_text("a photo\n")
    with pytest.raises(LabelsError, match="t.txt line 1: 'a photo' has no place"):
        read_templates(str(path))
    path.write_text("\n")
    with pytest.raises(LabelsError, match="holds no template"):
        read_templates(str(path))
    with pytest.raises(FileNotFoundError, match="neither a file nor one of plain, photos"):
        read_templates("photo")


def test_files_of_names(tmp_path):
    path = tmp_path / "n.txt"
    path.write_text("n01\tgreat shark\twhite shark\nn02\thouse cat\n")
    expected = {"n01": ("great shark", "white shark"), "n02": ("house cat",)}
    assert read_names(str(path)) == expected
    as_json = tmp_path / "n.json"
    as_json.write_text('{"n01": ["great shark", "white shark"], "n02": "house cat"}')
    assert read_names(str(as_json)) == expected
    for text, message in (
        ("n01\n", "line 1: class 'n01' has no name"),
        ("n01\ta\n\nn01\tb\n", "line 3: class 'n01' comes twice"),
        ("", "names no class"),
    ):
        path.write_text(text)
        with pytest.raises(LabelsError, match=message):
            read_names(str(path))
    for text, message in (("[1]", "has no name"), ("{", "is no JSON"), ('{"a": []}', "'a' has no")):
        as_json.write_text(text)
        with pytest.raises(LabelsError, match=message):
            read_names(str(as_json))


def test_folders_name_themselves_unless_names_are_given():
    assert names_of(["great_white-shark", "cat"], None) == [("great white shark",), ("cat",)]
    assert names_of(["a"], {"a": ["x", "y"], "b": ["z"]}) == [("x", "y")]
    with pytest.raises(LabelsError, match="1 classes have no name, such as 'c'"):
        names_of(["a", "c"], {"a": ["x"]})
