import gzip
import json
import re
import subprocess
import sys

import pytest

from vlmo_jax.datasets import build_text, sources


@pytest.fixture
def texts(tmp_path):
    """A folder of two files with 50 documents: 40 lines of which one is long, 1 blank one, 10
    objects.
    """
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    lines = [f"Line number {i} says naïve things." for i in range(40)]
    lines[7] = " ".join(f"Sentence {i} of a long document." for i in range(30))
    (folder / "a.txt").write_text("\n".join(lines[:20] + ["  "] + lines[20:]), encoding="utf-8")
    with gzip.open(folder / "more/b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": f"Object\n{i}"}) + "\n" for i in range(10))
    return folder


def build(texts, out, **options):
    return build_text.build_text([texts], out, **{"passage_length": 200, **options})


def records(out, split="train"):
    return list(sources.open_text_source(str(out), split))


def test_documents_come_back_in_order_long_ones_in_passages(texts, tmp_path):
    report = build(texts, tmp_path / "out", shard_bytes=1000)
    found = records(tmp_path / "out")
    assert report.documents == 50 and report.blank == 1 and report.cut == 1
    assert report.counts == {"train": len(found)} and report.characters == sum(
        len(record.text) for record in found
    )
    assert len(list((tmp_path / "out").glob("out-train*"))) > 1
    passages = [record for record in found if re.match(r"a\.txt:8(\.|$)", record.text_id)]
    assert [record.text_id for record in passages[:3]] == ["a.txt:8", "a.txt:8.1", "a.txt:8.2"]
    assert " ".join(record.text for record in passages) == " ".join(
        f"Sentence {i} of a long document." for i in range(30)
    )
    assert all(len(record.text) <= 200 and record.text.endswith(".") for record in passages)
    others = [record for record in found if record not in passages]
    assert [record.text for record in others[:2]] == [
        "Line number 0 says naïve things.",
        "Line number 1 says naïve things.",
    ]
    assert [record.text_id for record in others[-11:]] == [
        "a.txt:41",
        *(f"more/b.jsonl.gz:{i}" for i in range(1, 11)),
    ]
    assert others[-1].text == "Object 9"


def test_paragraphs(texts, tmp_path):
    (texts / "a.txt").write_text("one\ntwo\n\nthree\n")
    assert build(texts, tmp_path / "out", unit="paragraphs").documents == 12
    assert [record.text for record in records(tmp_path / "out")][:2] == ["one two", "three"]


def test_shares_are_drawn_by_the_text_itself(tmp_path):
    (tmp_path / "a.txt").write_text(
        "".join(f"document {i}\n" for i in range(2000)) + "document 5\n" * 10
    )
    shares = {"train": 0.9, "validation": 0.1}
    report = build(tmp_path / "a.txt", tmp_path / "out", splits=shares)
    assert sum(report.counts.values()) == 2010 and 150 < report.counts["validation"] < 250
    train, validation = (
        {record.text for record in records(tmp_path / "out", split)} for split in shares
    )
    assert not train & validation and len(train | validation) == 2000
    build(tmp_path / "a.txt", tmp_path / "again", splits=shares)
    assert {record.text for record in records(tmp_path / "again", "validation")} == validation
    build(tmp_path / "a.txt", tmp_path / "other", splits=shares, seed=1)
    assert {record.text for record in records(tmp_path / "other", "validation")} != validation


def test_passages_of_a_document_stay_together(tmp_path):
    text = " ".join(f"word{i}" for i in range(300))
    (tmp_path / "a.txt").write_text("".join(f"{i} {text}\n" for i in range(30)))
    build(tmp_path / "a.txt", tmp_path / "out", splits={"train": 0.5, "validation": 0.5})
    numbers = [
        {
            record.text_id.split(".txt:")[1].split(".")[0]
            for record in records(tmp_path / "out", split)
        }
        for split in ("train", "validation")
    ]
    assert not numbers[0] & numbers[1] and len(numbers[0] | numbers[1]) == 30


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("bad.txt", b"caf\xe9\n", "bad.txt line 1 is not UTF-8"),
        ("bad.jsonl", b"{}\n", "bad.jsonl line 1 must be an object"),
        ("bad.txt.gz", b"no gzip", "bad.txt.gz is no whole gzip file"),
    ],
)
def test_bad_input_leaves_nothing(texts, tmp_path, name, data, message):
    (texts / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        build(texts, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize("data", [b"", b"\n \n\t\n"])
def test_files_without_text_leave_nothing(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(
        ValueError,
        match="0 documents with text in .*a.txt leave none for split train; nothing was written",
    ):
        build(tmp_path / "a.txt", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_split_without_text_leaves_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(ValueError, match="1 documents .* leave none for split (train|validation);"):
        build(tmp_path / "a.txt", tmp_path / "out", splits={"train": 0.5, "validation": 0.5})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"unit": "words"}, "--documents words is unknown; use one of lines, paragraphs"),
        ({"passage_length": 99}, "--passage_length 99 leaves no room"),
    ],
)
def test_impossible_arguments_are_refused(texts, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build(texts, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command(texts, tmp_path, capsys):
    arguments = [
        str(texts),
        str(tmp_path / "out"),
        "--split=train=0.8,validation=0.2",
        "--passage_length=200",
    ]
    build_text.main(arguments)
    said = capsys.readouterr().out
    assert (
        "of 50 documents" in said
        and "1 long documents were cut" in said
        and f"--config.data.source={tmp_path / 'out'}" in said
    )
    with pytest.raises(SystemExit, match="already exists; name another folder or give --overwrite"):
        build_text.main(arguments)
    build_text.main([*arguments, "--overwrite"])
    with pytest.raises(SystemExit, match="shares must be"):
        build_text.main([*arguments, "--overwrite", "--split=train=0.8,validation=0.3"])


def test_kinds_of_records_are_told_apart(texts, tmp_path, dataset):
    build(texts, tmp_path / "out")
    with pytest.raises(
        ValueError,
        match=(
            "out holds texts, not images with captions .*make another with: .*datasets.build IMAGES"
        ),
    ):
        sources.open_source(str(tmp_path / "out"), "train")
    with pytest.raises(
        ValueError,
        match="data holds images with captions, not texts .*make another with: .*build_text FILES",
    ):
        sources.open_text_source(str(dataset), "train")
    assert sources.split_sizes(str(tmp_path / "out")) == {"train": len(records(tmp_path / "out"))}


def test_reading_groups_of_records_logs_nothing():
    code = (
        "from vlmo_jax.datasets import open_text_source; print(len(open_text_source('glosses',"
        " 'validation')[0].text))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "" and int(done.stdout) > 10


def test_the_number_in_an_id_is_the_line(texts, tmp_path):
    build(texts, tmp_path / "out", passage_length=10_000)
    lines = (texts / "a.txt").read_text(encoding="utf-8").splitlines()
    for record in records(tmp_path / "out")[:40]:
        assert lines[int(record.text_id.split(":")[1]) - 1] == record.text
