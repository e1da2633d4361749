"""The choice between a right and a wrong caption: chance, a model that knows, and one that errs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.evals import retrieval_case as case
from vlmo_jax.evals.choice import ChoiceEvaluator, draw_wrong_texts
from vlmo_jax.parallel import sharding
from vlmo_jax.tasks.retrieval import Encoders


def test_wrong_captions_are_of_other_images_and_in_other_words():
    texts = ["a cat", "A  cat", "a dog", "a house", "a cat", "a cow"]
    owners = np.array([0, 0, 1, 2, 3, 4])
    wrong = draw_wrong_texts(texts, owners)
    assert all(owners[row] != image for image, row in enumerate(wrong))
    assert not {wrong[0], wrong[3]} & {0, 1, 4}  # "a cat" is right for both
    np.testing.assert_array_equal(wrong, draw_wrong_texts(texts, owners))
    with pytest.raises(ValueError, match="other words"):
        draw_wrong_texts(["a", "A"], np.array([0, 1]))


@pytest.fixture(scope="module")
def chooser():
    mesh = sharding.make_mesh()
    options = dict(batch_size=8 * jax.device_count())
    kinds = {
        by_pairs: case.make_evaluator(mesh, kind=ChoiceEvaluator, by_pairs=by_pairs, **options)
        for by_pairs in (False, True)
    }
    with jax.set_mesh(mesh):
        yield kinds


def scores_by(sign):
    """A fused model that says of a pair whether the image's number is in the text's ids, or the
    opposite: as the test's tokens are numbers of images.
    """
    scored = lambda params, batch: (
        sign * jnp.where(batch["token_ids"][:, 0] == batch["image"][:, 0, 0, 0], 1.0, -1.0)
    )
    return Encoders(case.encode_image, case.encode_text, jax.jit(scored))


@pytest.mark.parametrize("sign, expected", [(1, 1.0), (-1, 0.0), (0, 0.5)])
def test_pairs_are_judged_by_their_score(chooser, sign, expected, monkeypatch):
    evaluator = chooser[True]
    blocks = list(evaluator._images())
    for block in blocks:
        block["image"] = (
            np.zeros_like(block["image"]) + block["index"].astype(np.uint8)[:, None, None, None]
        )
    tokens = {name: array.copy() for name, array in evaluator._tokens().items()}
    tokens["token_ids"][: len(evaluator.texts), 0] = evaluator.text_image
    monkeypatch.setattr(evaluator, "_images", lambda: iter(blocks))
    monkeypatch.setattr(evaluator, "_tokens", lambda: tokens)
    metrics, chosen = evaluator.choose(scores_by(sign), [], 0)
    assert metrics["accuracy"] == expected
    assert metrics["judged_accuracy"] == expected
    lines = list(evaluator.lines(chosen))
    assert [line["image_id"] for line in lines] == list(evaluator.image_ids)
    assert all(line["right_score"] == sign and line["wrong_score"] == -sign for line in lines)
    assert all(line["right"] != line["wrong"] for line in lines)


def test_vectors_choose_as_their_products_say(chooser):
    evaluator = chooser[False]
    params = case.make_params(evaluator._tokenizer.vocab_size)
    metrics, _ = evaluator.choose(case.ENCODERS, params, 0)
    assert set(metrics) == {"accuracy"}
    found = evaluator._search(case.ENCODERS, params).to_text.similar
    products = found.queries @ found.candidates.T
    images = np.arange(evaluator.num_records)
    better = products[images, evaluator._right] > products[images, evaluator._wrong]
    assert metrics["accuracy"] == pytest.approx(better.mean())
