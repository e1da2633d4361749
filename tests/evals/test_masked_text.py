"""Held-out masked language modelling, and blanks filled in."""

import jax
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.datasets import TextRecord
from vlmo_jax.evals.masked_text import MaskedTextEvaluator, draw_blanks, fill_in_examples
from vlmo_jax.input.masked_texts import EvalMaskedTexts
from vlmo_jax.input.text.masked_rows import TextRows
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.tasks.text_pretrain import make_masked_text_model

WORDS = ("apple", "cat", "cloud", "rain", "face", "green", "hand", "house", "water", "moon")
FIELDS = dict(
    experts=("image", "text"), heads=("mlm",), vocab_size=4000, text_length=12, text_positions=12
)
ROWS = dict(rows=TextRows(text_length=12, max_masked_tokens=4), mask_rate=0.2)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("emoji")


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [
        TextRecord(" ".join(rng.choice(WORDS, rng.integers(2, 14))), f"t:{i}") for i in range(20)
    ]


@pytest.fixture(scope="module")
def model():
    return make_masked_text_model(tiny.graphdef(**FIELDS), top_k=3)


@pytest.fixture(scope="module")
def params():
    return tiny.params(**FIELDS)


def evaluate(texts, tokenizer, model, params, *, batch_size=8, mesh=(1, 1, 1)):
    mesh = tiny.mesh_of(mesh)
    evaluator = MaskedTextEvaluator(
        texts, tokenizer, name="held_out", batch_size=batch_size, mesh=mesh, **ROWS
    )
    with jax.set_mesh(mesh):
        return evaluator.evaluate(model, params, 3)


@pytest.mark.parametrize("batch_size, mesh", [(8, (1, 1, 1)), (64, (1, 1, 1)), (16, (4, 2, 1))])
def test_every_masked_token_counts_once_whatever_the_batches(
    texts, tokenizer, model, params, capsys, batch_size, mesh
):
    rows = EvalMaskedTexts(texts, tokenizer, **ROWS)
    assert len(rows) % 8 and len(rows) < 64
    [batch] = rows.batches(len(rows))
    loss, right, count = np.asarray(model.score(params, batch), np.float64).sum(0)
    found = evaluate(texts, tokenizer, model, params, batch_size=batch_size, mesh=mesh)
    np.testing.assert_allclose(found["mlm_loss"], loss / count, rtol=1e-5)
    assert found["mlm_accuracy"] == right / count
    assert (
        f"held_out at step 3: 20 texts in {len(rows)} rows, {int(count)} masked tokens"
        in capsys.readouterr().out
    )


def test_broken_parameters_and_arguments_are_named(texts, tokenizer, model, params):
    broken = jax.tree.map(lambda x: x, params)
    broken["mlm_head"]["decoder"]["bias"] = np.full_like(
        broken["mlm_head"]["decoder"]["bias"], np.nan
    )
    with pytest.raises(
        RuntimeError, match="evaluator 'held_out' failed at step 3: the loss is nan"
    ):
        evaluate(texts, tokenizer, model, broken)
    with pytest.raises(
        ValueError, match="'held_out': batch_size=6 does not divide over 4 batch shards"
    ):
        evaluate(texts, tokenizer, model, params, batch_size=6, mesh=(4, 1, 1))
    with pytest.raises(ValueError, match="'held_out': there are no texts"):
        evaluate([], tokenizer, model, params)


def test_blanks_are_whole_words_of_texts_that_fit(texts, tokenizer):
    blanks = draw_blanks(texts, tokenizer, text_length=12, count=5)
    again = draw_blanks(texts, tokenizer, text_length=12, count=5)
    assert blanks.parts == again.parts and len(blanks.answers) == 5
    for parts, answers, ids, mask in zip(
        blanks.parts, blanks.answers, blanks.batch["mlm_token_ids"], blanks.batch["token_mask"]
    ):
        assert len(parts) == 3 and len(answers) == 2 and set(answers) <= set(WORDS)
        text = " ".join(filter(None, [parts[0], answers[0], parts[1], answers[1], parts[2]]))
        assert text in {record.text for record in texts} and parts[1]
        assert (ids == tokenizer.mask_id).sum() == 2
        assert mask.sum() == len(tokenizer.encode(text).ids) + 2
    labels = blanks.batch["mlm_labels"]
    assert [[tokenizer.decode([i]) for i in row] for row in labels] == blanks.answers
    assert draw_blanks(texts, tokenizer, text_length=12, count=5, seed=1).parts != blanks.parts
    with pytest.raises(ValueError, match="no text has 2 words of 30 letters"):
        draw_blanks(texts, tokenizer, text_length=12, min_letters=30)


def test_blanks_are_in_the_beginnings_of_texts_that_do_not_fit(texts, tokenizer):
    whole = " ".join(record.text for record in texts)
    blanks = draw_blanks([TextRecord(whole, "long")], tokenizer, text_length=12, count=5)
    [parts], [answers] = blanks.parts, blanks.answers
    assert whole.startswith(
        " ".join(filter(None, [parts[0], answers[0], parts[1], answers[1], parts[2]]))
    )
    assert blanks.batch["token_mask"].sum() in (11, 12)


@pytest.mark.parametrize("mesh", [(1, 1, 1), (8, 1, 1)])
def test_likeliest_words_come_first(texts, tokenizer, model, params, mesh):
    blanks = draw_blanks(texts, tokenizer, text_length=12, count=3)
    expected = np.asarray(model.fill(params, blanks.batch))
    mesh = tiny.mesh_of(mesh)
    with jax.set_mesh(mesh):
        found = fill_in_examples(model, params, blanks, tokenizer, mesh)
    assert [fill.parts for fill in found] == blanks.parts and [
        fill.answers for fill in found
    ] == blanks.answers
    for fill, row in zip(found, expected, strict=True):
        for guesses, (probabilities, ids) in zip(fill.guesses, row, strict=True):
            np.testing.assert_allclose([p for _, p in guesses], probabilities, rtol=1e-5)
            assert [word.removeprefix("-") for word, _ in guesses] == [
                tokenizer.decode([int(i)]) for i in ids
            ]


def test_the_rest_of_a_word_has_a_hyphen(texts, tokenizer, params):
    model = make_masked_text_model(tiny.graphdef(**FIELDS), top_k=1)
    blanks = draw_blanks(texts, tokenizer, text_length=12, count=1)
    mesh = tiny.mesh_of((1, 1, 1))
    for token in (
        *tokenizer.encode("cat").ids,
        tokenizer.mask_id,
        4000 - 1,
        tokenizer.encode("unhappiness").ids[-1],
        tokenizer.encode("a,").ids[-1],
    ):
        sure = jax.tree.map(lambda x: x, params)
        sure["mlm_head"]["decoder"]["bias"] = 1000.0 * np.eye(4000, dtype=np.float32)[token]
        with jax.set_mesh(mesh):
            [fill] = fill_in_examples(model, sure, blanks, tokenizer, mesh)
        [(word, probability)] = fill.guesses[0]
        assert probability > 0.99
        spelled = {tokenizer.mask_id: "[MASK]"}.get(token, tokenizer.decode([token]))
        begins_word = not spelled.isalnum() or tokenizer.encode(spelled).ids == [token]
        assert word == (spelled if begins_word else f"-{spelled}")
