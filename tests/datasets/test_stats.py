import collections
import dataclasses

import numpy as np

from vlmo_jax.datasets import records, sources, stats, writer
from vlmo_jax.input.text import tokenizer


def test_measures(tmp_path, some_records, encoded_image):
    jpeg = dataclasses.replace(
        some_records[1], image=encoded_image(0, "JPEG", (30, 7)), texts=("one two three", "four")
    )
    with writer.DatasetWriter(tmp_path / "data", description="") as out:
        for record in (some_records[0], jpeg, dataclasses.replace(some_records[2], image=b"junk")):
            out.write("train", record)
    measured = stats.measure_split(
        sources.open_source(str(tmp_path / "data"), "train"), tokenizer.load_tokenizer("emoji")
    )
    assert measured.formats == {"PNG": 1, "JPEG": 1, "unreadable": 1}
    assert measured.sizes.tolist() == [[12, 8], [30, 7]]
    assert measured.captions.tolist() == [1, 2, 1] and measured.words.tolist() == [2, 3, 1, 2]
    assert measured.keywords.tolist() == [0, 1, 2] and measured.broken == 0
    assert (measured.tokens >= measured.words + 2).all() and measured.tokens.shape == (4,)


def test_report_of_the_embedded_data(capsys):
    stats.main(["emoji", "--tokenizer", "emoji", "--text_length", "5"])
    out = capsys.readouterr().out
    assert (
        "7,620" in out
        and "unseen_artist" in out
        and "64 / 64 / 64 / 64" in out
        and "cut at 5" in out
    )


def test_share_of_cut_captions():
    measured = stats.SplitStats(
        formats=collections.Counter(),
        bytes=np.ones(4, int),
        sizes=np.ones((0, 2), int),
        captions=np.ones(4, int),
        keywords=np.zeros(4, int),
        words=np.ones(4, int),
        tokens=np.array([3, 40, 41, 90]),
        broken=0,
        examples=[],
    )
    assert "50.00%" in stats.format_stats({"train": measured}, 40)


def test_measures_of_texts(tmp_path, capsys):
    texts = ["one two three", "cat", "a longer text of some words that go on"]
    with writer.DatasetWriter(tmp_path / "texts", kind=records.TEXTS, description="") as out:
        for i, text in enumerate(texts):
            out.write("train", records.TextRecord(text, f"t:{i}"))
    source = sources.open_text_source(str(tmp_path / "texts"), "train")
    measured = stats.measure_texts(source, tokenizer.load_tokenizer("emoji"), num_examples=1)
    assert measured.words.tolist() == [3, 1, 9] and measured.characters.tolist() == [
        len(text) for text in texts
    ]
    assert (
        (measured.tokens >= measured.words + 2).all()
        and measured.broken == 0
        and len(measured.examples) == 1
    )
    stats.main([str(tmp_path / "texts"), "--tokenizer", "emoji", "--text_length", "8"])
    said = capsys.readouterr().out
    assert "33.33%" in said and "train: t:1: cat" in said and "over 8" in said
