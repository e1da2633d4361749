import json

import pytest

from vlmo_jax.datasets.readers import captions

FILES = ["a.jpg", "sub/b.jpg", "sub/c.jpg", "other/c.jpg"]


def _read(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    return captions.read_captions(path, FILES)


def _jsonl(*rows):
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def test_jsonl_rows_of_an_image_are_put_together(tmp_path):
    found, missing = _read(
        tmp_path,
        "c.jsonl",
        _jsonl(
            {"image": "a.jpg", "text": "a cat\n on a   mat", "keywords": "cat, mat"},
            {"image": "sub/b.jpg", "texts": ["two", "lines"], "split": "validation"},
            {"image": "./a.jpg", "caption": "a black cat", "tags": ["black", "cat"]},
            {"image": "a.jpg", "caption": "a black cat"},
        ),
    )
    assert missing == []
    assert found == [
        captions.CaptionedImage(
            "a.jpg", ["a cat on a mat", "a black cat"], ["cat", "mat", "black"], None, 0
        ),
        captions.CaptionedImage("sub/b.jpg", ["two", "lines"], [], "validation", 0),
    ]


@pytest.mark.parametrize("name, separator", [("c.csv", ","), ("c.tsv", "\t")])
def test_tables_with_usual_column_names(tmp_path, name, separator):
    text = "\n".join(
        separator.join(row)
        for row in [
            ("File_Name", "Caption", "split"),
            ("a.jpg", '"one, ""two"""', "train"),
            ("b.jpg", "three", "test"),
        ]
    )
    found, _ = _read(tmp_path, name, text, encoding="utf-8-sig")
    assert [(image.path, image.texts, image.split) for image in found] == [
        ("a.jpg", ['one, "two"'], "train"),
        ("sub/b.jpg", ["three"], "test"),
    ]


def test_blank_captions_are_counted(tmp_path):
    found, _ = _read(
        tmp_path,
        "c.jsonl",
        _jsonl(
            {"image": "a.jpg", "texts": ["", " \t", "good"]},
            {"image": "b.jpg", "text": None},
            {"image": "b.jpg", "texts": []},
        ),
    )
    assert [(image.texts, image.blank) for image in found] == [(["good"], 2), ([], 2)]


def test_names_that_no_single_file_answers_to_are_missing(tmp_path):
    found, missing = _read(
        tmp_path, "c.csv", "image,text\nc.jpg,which\nsub/c.jpg,this\nz.jpg,none\nz.jpg,twice\n"
    )
    assert [image.path for image in found] == ["sub/c.jpg"]
    assert missing == ["c.jpg", "z.jpg"]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("c.jsonl", '{"image": "a.jpg", "text": "x"}\n{"image": ', "line 2 is no JSON"),
        ("c.jsonl", '["a.jpg", "x"]\n', "line 1 must be an object"),
        ("c.jsonl", '{"image": "a.jpg", "text": 3}\n', "3 where a string"),
        ("c.jsonl", '{"image": "a.jpg", "text": [{"raw": "x"}]}\n', "where a string"),
        ("c.jsonl", '{"photo": "a.jpg", "text": "x"}\n', "none says the image.*file_name"),
        ("c.csv", "image,words\na.jpg,x\n", "none says the text.*caption"),
        ("c.csv", "image,text\n,x\n", "line 2 has no value for image"),
        ("c.csv", "image,text\na.jpg,one, two\n", "line 2 has more fields.*quotes"),
        (
            "c.csv",
            "image,text,split\na.jpg,x,train\na.jpg,y,test\n",
            "split 'test', an earlier row into 'train'",
        ),
        ("c.txt", "a.jpg x\n", "must end in .jsonl, .csv, .tsv"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, name, text)


def test_other_encodings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not UTF-8"):
        _read(tmp_path, "c.csv", "image,text\na.jpg,café\n", encoding="latin-1")


def test_the_captions_file_is_found_or_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="--captions"):
        captions.find_captions_file(tmp_path)
    (tmp_path / "one.csv").touch()
    assert captions.find_captions_file(tmp_path).name == "one.csv"
    (tmp_path / "two.jsonl").touch()
    with pytest.raises(ValueError, match="one.csv, two.jsonl.*--captions"):
        captions.find_captions_file(tmp_path)
