import gzip

import pytest

from vlmo_jax.input import train_tokenizer
from vlmo_jax.input.text import tokenizer

LINES = [
    f"the {size} {colour} {thing}"
    for size in ("large", "small")
    for colour in ("red", "green", "blue")
    for thing in ("house", "horse", "boat", "bird")
]


def test_trains_from_text_and_data_sets_alike_each_time(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write("Zwölf Boxkämpfer\n" * 20)
    outputs = [tmp_path / "one.model", tmp_path / "new" / "two.model"]
    for output in outputs:
        train_tokenizer.main(
            [
                "--corpus",
                str(tmp_path / "a.txt"),
                str(tmp_path / "b.txt.gz"),
                "emoji",
                "--split",
                "unseen_concepts",
                "--output",
                str(output),
                "--vocab_size",
                "300",
                "--character_coverage",
                "1.0",
            ]
        )
    assert "300 tokens" in capsys.readouterr().out
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.txt",
        "b.txt.gz",
        "new",
        "one.model",
    ]
    trained = tokenizer.load_tokenizer(str(outputs[0]))
    assert trained.vocab_size == 300 and tuple(trained.special_tokens) == (0, 1, 2, 3, 4)
    for text in ("large green horse", "zwölf boxkämpfer", "love letter"):
        assert trained.decode(trained.encode(text).ids) == text


@pytest.mark.parametrize(
    "corpus, output, vocab_size, message",
    [
        ("a.txt", "p.bin", 300, "must end in .model"),
        ("a.txt", "p.model", 5000, "(?s)--vocab_size 5000.*value <="),
        ("a.txt", "p.model", 6, "--vocab_size 6"),
        ("gone.txt", "p.model", 300, "gone.txt: there is no such text file or data set"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path, monkeypatch, corpus, output, vocab_size, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("\n".join(LINES))
    with pytest.raises(SystemExit, match=message):
        train_tokenizer.main(
            ["--corpus", corpus, "--output", output, "--vocab_size", str(vocab_size)]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_trains_from_a_data_set_of_texts(tmp_path):
    train_tokenizer.train_tokenizer(["glosses"], str(tmp_path / "t.model"), 600, split="validation")
    trained = tokenizer.load_tokenizer(str(tmp_path / "t.model"))
    assert trained.decode(trained.encode("of the house").ids) == "of the house"


def test_lines_of_many_bytes_are_not_lost(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("a b c d\n" * 50 + " ".join(["\u732b"] * 3000) + "\n", encoding="utf-8")
    train_tokenizer.train_tokenizer([str(text)], str(tmp_path / "m.model"), 12)
    loaded = tokenizer.load_tokenizer(str(tmp_path / "m.model"))
    assert 1 not in loaded.encode("\u732b").ids
