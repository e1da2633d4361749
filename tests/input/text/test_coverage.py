from vlmo_jax.datasets import TextRecord
from vlmo_jax.input.text import coverage, tokenizer


def test_unknown_tokens_and_cut_texts_are_counted(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("\n".join([*tokenizer.BERT_TOKENS, "a", "man"]))
    loaded = tokenizer.load_tokenizer(str(path))
    found = coverage.measure_coverage(["a man", "a man a man", "x a"], loaded, text_length=5)
    assert found == coverage.Coverage(texts=3, tokens=8, unknown=1, cut=1)
    assert found.unknown_share == 1 / 8 and found.cut_share == 1 / 3
    records = [TextRecord(text, str(i)) for i, text in enumerate(["a man"] * 3000)]
    assert len(coverage.sample_texts(records)) == 500
    assert "WARNING" not in coverage.describe_coverage(records, loaded, 5)
    foreign = [TextRecord("\u732b \u72ac", "1")]
    said = coverage.describe_coverage(foreign, loaded, 5)
    assert "100.0% of the tokens" in said and "train a tokenizer on them with" in said
