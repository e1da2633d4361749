import json

import pytest

from vlmo_jax.datasets.readers import captions

FILES = ["a.jpg", "sub/b.jpg", "sub/c.jpg", "other/c.jpg"]


def _read(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    read = captions.read_captions(path, FILES)
    return read.images, list(read.missing)


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
        ("c.doc", "a.jpg x\n", "must end in .jsonl, .csv, .tsv"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, name, text, message):
    with pytest.raises(ValueError, match=message):
        _read(tmp_path, name, text)


def test_other_encodings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not UTF-8"):
        _read(tmp_path, "c.csv", "image,text\na.jpg,café\n", encoding="latin-1")


def test_the_captions_file_is_found_or_asked_for(tmp_path):
    assert captions.find_captions_file(tmp_path) is None
    (tmp_path / "table.xlsx").touch()
    with pytest.raises(FileNotFoundError, match="table.xlsx.*--captions"):
        captions.find_captions_file(tmp_path)
    (tmp_path / "one.csv").touch()
    assert captions.find_captions_file(tmp_path).name == "one.csv"
    (tmp_path / "two.jsonl").touch()
    with pytest.raises(ValueError, match="one.csv, two.jsonl.*--captions"):
        captions.find_captions_file(tmp_path)


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("c.csv", 'image,text\na.jpg,"Stop" he said\nsub/b.jpg,go\n', ['"Stop" he said', "go"]),
        ("c.csv", 'image,text\na.jpg,"open\nsub/b.jpg,closed"\n', ['"open', 'closed"']),
        ("c.tsv", 'image\ttext\na.jpg\t"open\nsub/b.jpg\tgo\n', ['"open', "go"]),
        (
            "c.csv",
            'image,text\na.jpg,"two\nlines, here"\nsub/b.jpg,go\n',
            ["two lines, here", "go"],
        ),
        ("c.csv", 'text,image\n"two\nlines",a.jpg\ngo,sub/b.jpg\n', ["two lines", "go"]),
        ("c.csv", "image;text\r\na.jpg;one, two\r\nsub/b.jpg;go\r\n", ["one, two", "go"]),
        ("c.csv", "image,text\ra.jpg,one\rsub/b.jpg,go\r", ["one", "go"]),
        ("c.csv", "a.jpg,one\nsub/b.jpg,go\n", ["one", "go"]),
        ("c.txt", "a.jpg#0\tone\nsub/b.jpg#0\tgo\n", ["one", "go"]),
        (
            "c.csv",
            "image_name| comment_number| comment\na.jpg| 0| one\nb.jpg| 0| go\n",
            ["one", "go"],
        ),
        ("c.csv", "Image Path,caption 1,caption_2\na.jpg,one,\nb.jpg,,go\n", ["one", "go"]),
        (
            "c.json",
            '[{"image": "a.jpg", "text": "one"},\n{"image": "b.jpg", "text": "go"}]',
            ["one", "go"],
        ),
        ("c.json", '{"a.jpg": ["one"], "b.jpg": "go"}', ["one", "go"]),
        (
            "c.json",
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],'
            '"annotations": [{"image_id": 2, "caption": "go"}, {"image_id": 1, "caption": "one"}]}',
            ["one", "go"],
        ),
        (
            "c.json",
            '{"images": [{"filename": "a.jpg", "sentences": [{"raw": "one"}], "split": "train"},'
            '{"filename": "b.jpg", "sentences": [{"raw": "go"}]}]}',
            ["one", "go"],
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_captions_as_people_write_them(tmp_path, name, text, expected, encoding):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    read = captions.read_captions(path, FILES)
    assert [(image.path, image.texts) for image in read.images] == [
        ("a.jpg", [expected[0]]),
        ("sub/b.jpg", [expected[1]]),
    ]
    assert read.missing == {}


def test_odd_rows_are_counted_with_their_lines(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text('image,text\na.jpg,"open\nsub/b.jpg,"a\nb"\nsub/c.jpg\n')
    notes = captions.read_captions(path, FILES).notes
    assert [note.split(";")[0] for note in notes] == [
        "1 row(s) run over several lines",
        "1 row(s) have a quotation mark that is not closed",
        "1 row(s) end before their caption, which is missing",
    ]
    assert all(f"line {line}" in note for line, note in zip((3, 2, 5), notes, strict=True))


def test_a_key_given_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="key 'a.jpg' twice"):
        _read(tmp_path, "c.json", '{"a.jpg": "one", "a.jpg": "two"}')


def test_text_files_beside_images_are_captions(tmp_path):
    (tmp_path / "1.jpg").touch()
    (tmp_path / "1.txt").write_text("one\n\ntwo  words\n")
    (tmp_path / "2.txt").write_text("lost\n")
    read = captions.read_sidecars(tmp_path, ["1.jpg", "1.txt", "2.txt", "README.txt"])
    assert [(image.path, image.texts) for image in read.images] == [("1.jpg", ["one", "two words"])]
    assert list(read.missing) == ["2.txt"]


def test_a_file_that_two_folders_mean_belongs_to_neither(tmp_path):
    rows = "image,text\nx/b.jpg#0,one\nx/b.jpg#1,two\n"
    found, missing = _read(tmp_path, "c.csv", rows)
    assert [(image.path, image.texts) for image in found] == [("sub/b.jpg", ["one", "two"])]
    assert missing == []
    found, missing = _read(tmp_path, "d.csv", rows + "y/b.jpg,three\n")
    assert found == [] and missing == ["x/b.jpg", "y/b.jpg"]
    found, missing = _read(tmp_path, "e.csv", rows + "sub/b.jpg,three\n")
    assert [image.texts for image in found] == [["three"]] and missing == ["x/b.jpg"]
