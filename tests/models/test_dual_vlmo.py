"""The dual encoder that fusion is compared with: no token of a text meets one of an image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import (
    MODELS,
    abstract_params,
    check_model,
    count_params,
    model_maker,
    random_params,
)
from vlmo_jax.models.flops import vlmo_passes
from vlmo_jax.tasks.abilities import AnswersQuestions, ComparesImages


def fields(*heads, **changes):
    model = tiny.config().model.to_dict()
    return {
        **model,
        "kind": "dual_vlmo",
        "heads": heads,
        "num_answers": 5,
        "experts": ("image", "text"),
        **changes,
    }


def make(*heads):
    changes = dict(kind="dual_vlmo", heads=heads, num_answers=5, experts=("image", "text"))
    return tiny.model(tiny.params(**changes), **changes)


def arrays_of(batch):
    image, ids, mask = (jnp.asarray(batch[n]) for n in ("image", "token_ids", "token_mask"))
    return image / 127.5 - 1, ids, mask


@pytest.mark.parametrize(
    "heads, modules",
    [(("vqa",), {"vqa_head"}), (("nlvr2",), {"nlvr2_head"}), (("vqa", "nlvr2"), None)],
)
def test_it_has_the_heads_and_no_parts_of_fusion(heads, modules):
    params = random_params(model_maker(fields(*heads)), 0)
    found = set(params) - {"image_embedding", "text_embedding", "transformer", "modality_type"}
    assert found == (modules or {"vqa_head", "nlvr2_head"})
    assert params["modality_type"].shape[0] == 2
    assert issubclass(MODELS["dual_vlmo"].module, AnswersQuestions | ComparesImages)


@pytest.mark.parametrize("heads", [("vqa",), ("nlvr2",), ("vqa", "nlvr2", "mlm")])
def test_parameters_are_counted_exactly(heads):
    counted = MODELS["dual_vlmo"].num_params(fields(*heads))
    assert counted == count_params(abstract_params(model_maker(fields(*heads))))


def test_answers_read_both_vectors_beside_each_other():
    model, batch = make("vqa"), tiny.make_batch(3)
    image, ids, mask = arrays_of(batch)
    logits = model.answer(image, ids, mask)
    assert logits.shape == (3, 5) and logits.dtype == jnp.float32
    images = model.encode_image(model.embed_image(image))[:, 0, 0]
    texts = model.encode_text(model.embed_text(ids), mask)[:, 0, 0]
    expected = model.vqa_head(jnp.concatenate([images, texts], axis=-1))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_what_the_head_does_not_mix_stays_apart():
    """With a linear head the answer would be a sum of what image and text give alone."""
    model, batch = make("vqa"), tiny.make_batch(2)
    model.vqa_head = lambda vectors: vectors
    image, ids, mask = arrays_of(batch)
    width = tiny.config().model.width
    first, other = model.answer(image, ids, mask), model.answer(image, ids[::-1], mask[::-1])
    np.testing.assert_allclose(first[:, :width], other[:, :width], atol=1e-6)
    np.testing.assert_allclose(first[:, width:], other[::-1, width:], atol=1e-5)


def test_judgements_tell_left_from_right():
    model, batch = make("nlvr2"), tiny.make_batch(2)
    image, ids, mask = arrays_of(batch)
    logits = model.compare(image, image[::-1], ids, mask)
    assert logits.shape == (2, 2)
    assert not np.allclose(logits, model.compare(image[::-1], image, ids, mask), atol=1e-3)
    dropped = model.compare(image, image[::-1], ids, mask, jax.random.key(0))
    assert dropped.shape == (2, 2)


def test_impossible_ones_are_refused():
    with pytest.raises(ConfigError, match="has none of vqa, nlvr2"):
        check_model(fields("retrieval"), (1, 1, 1))
    with pytest.raises(ConfigError, match="heads"):
        check_model(fields("vqa", "unheard_of"), (1, 1, 1))
    check_model(fields("vqa"), (1, 1, 1))


def test_its_passes_are_cheaper_than_fused_ones():
    dual, fused = fields("vqa", "nlvr2"), {**fields("vqa", "nlvr2"), "kind": "vlmo"}
    assert 0.5 * vlmo_passes(fused).answer < vlmo_passes(dual).answer < vlmo_passes(fused).answer
    # A fused text is read once for each image, here once.
    assert vlmo_passes(dual).compare < vlmo_passes(fused).compare - vlmo_passes(dual).answer * 0.01
    one, both = (MODELS[m["kind"]].num_values(m, images=1, text=True) for m in (dual, fused))
    assert one[0] == both[0] and one[1] < both[1]
    # Two images are encoded one by one, and the text once; fused, each image has it.
    image, text = (MODELS["vlmo"].num_values(dual, images=i, text=not i) for i in (1, 0))
    two, fused_twice = (MODELS[m["kind"]].num_values(m, images=2, text=True) for m in (dual, fused))
    assert two == (2 * image[0] + text[0], max(image[1], text[1]))
    assert fused_twice == (2 * both[0], 2 * both[1])
