import gzip

import numpy as np
import pytest

from vlmo_jax.datasets.readers import text_files


def read(path, unit="lines"):
    with open(path, "rb") as file:
        return list(text_files.read_documents(path, file, unit))


@pytest.fixture
def write(tmp_path):
    """A function (name, bytes) -> the file, gzipped where its name says so."""

    def write(name, data):
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    "unit, expected",
    [
        ("lines", [(1, "Un café."), (2, ""), (3, "two words"), (4, "more")]),
        ("paragraphs", [(1, "Un café."), (3, "two words more")]),
    ],
)
def test_text_is_read_in_lines_or_paragraphs(write, name, unit, expected):
    assert read(write(name, "\ufeffUn  café.\r\n\n two\twords \nmore".encode()), unit) == expected


def test_paragraphs_end_at_lines_of_blanks_and_at_the_end(write):
    assert read(write("a.txt", b"\n \na\nb\n \n\t\nc\n\n"), "paragraphs") == [(3, "a b"), (7, "c")]


@pytest.mark.parametrize("unit", text_files.UNITS)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_are_documents_whatever_the_unit(write, name, unit):
    data = b'{"text": "one\\n\\ntwo", "id": 3}\n\n{"text": " "}\n'
    assert read(write(name, data), unit) == [(1, "one two"), (3, "")]


@pytest.mark.parametrize(
    "name, data, message",
    [
        (
            "a.txt",
            b"fine\ncaf\xe9 noir\n",
            r"a\.txt line 2 is not UTF-8: byte 4 of the line is 0xe9; convert the file first",
        ),
        ("a.txt.gz", b"caf\xe9", r"a\.txt\.gz line 1 is not UTF-8"),
        ("a.txt", "hello".encode("utf-16"), "line 1 is not UTF-8: byte 1 of the line is 0xff"),
        ("a.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is no JSON"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "line 1 holds half a character"),
        ("a.jsonl", b'{"text": ' + b"[" * 10**5, "line 1 is nested too deeply"),
        ("a.jsonl", b'["a"]\n', r'line 1 must be an object such as .*not \["a"\]'),
        ("a.jsonl", b'{"body": "a"}\n', 'line 1 must be an object such as {"text": "a document"}'),
        ("a.jsonl", b'{"text": 7}\n', 'line 1 must be an object such as {"text": "a document"}'),
    ],
)
def test_what_cannot_be_read_is_named(write, name, data, message):
    with pytest.raises(ValueError, match=message):
        read(write(name, data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: b"text, not gzip",
        lambda data: data[:30] + b"??" + data[32:],
    ],
)
def test_damaged_gzip_is_named(write, damage):
    path = write("a.txt.gz", np.random.default_rng(0).integers(32, 127, 5000, np.uint8).tobytes())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.txt\.gz is no whole gzip file"):
        read(path)


def test_files_are_found_in_folders(tmp_path):
    for name in ("b.txt", "deep/a.jsonl.gz", "deep/c.txt.gz", "image.png", "deep/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = text_files.find_text_files([tmp_path / "deep" / "c.txt.gz", tmp_path])
    assert list(found) == ["c.txt.gz", "b.txt", "deep/a.jsonl.gz", "deep/c.txt.gz"]


@pytest.mark.parametrize(
    "names, error, message",
    [
        (["none.txt"], FileNotFoundError, "no such file"),
        (["empty"], FileNotFoundError, "holds no text file"),
        (["a.md"], ValueError, "must end in .txt, .txt.gz"),
        (["a.txt", "other/a.txt"], ValueError, "both called a.txt"),
    ],
)
def test_paths_without_text_files_are_refused(tmp_path, names, error, message):
    for name in ("empty", "other"):
        (tmp_path / name).mkdir()
    for name in ("a.md", "a.txt", "other/a.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(error, match=message):
        text_files.find_text_files([tmp_path / name for name in names])


def test_passages_hold_all_of_a_text_and_end_with_sentences_or_words():
    rng = np.random.default_rng(0)
    for _ in range(200):
        words = ["x" * length for length in rng.integers(1, 12, rng.integers(1, 120))]
        for place in rng.integers(0, len(words), 6):
            words[place] += rng.choice([".", "!", '."', ","])
        text = " ".join(words)
        passages = text_files.cut_passages(text, 100)
        assert " ".join(passages) == text
        assert all(0 < len(passage) <= 100 for passage in passages)
        assert len(passages) == 1 or min(map(len, passages)) >= 20


def test_a_passage_ends_with_the_last_sentence_of_its_second_half():
    first, second = "word " * 12 + "end.", "more " * 11 + "stop"
    assert text_files.cut_passages(f"{first} {second}", 100) == [first, second]


def test_a_text_without_blanks_is_cut_all_the_same():
    assert "".join(text_files.cut_passages("x" * 1234, 100)) == "x" * 1234


def test_long_texts_are_cut_in_linear_time():
    text = " ".join(["some words"] * 200_000)
    assert sum(map(len, text_files.cut_passages(text, 1000))) > 2_000_000
