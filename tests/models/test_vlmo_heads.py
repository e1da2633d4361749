"""Which parameters a model's experts and heads bring, and what the heads of fine-tuning read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny

HEADS = ("itc", "itm", "mlm", "retrieval", "vqa", "nlvr2")


def top_level(**fields):
    return set(tiny.params(**fields)) - {
        "image_embedding",
        "text_embedding",
        "transformer",
        "modality_type",
    }


@pytest.mark.parametrize(
    "heads, modules",
    [
        ((), set()),
        (("mlm",), {"mlm_head"}),
        (("retrieval",), {"itc"}),
        (("itc",), {"itc", "itc_vl"}),
        (("vqa",), {"pooler", "vqa_head"}),
        (("nlvr2",), {"pooler", "nlvr2_head"}),
        (("itc", "itm", "mlm"), {"itc", "itc_vl", "pooler", "itm_head", "mlm_head"}),
        (HEADS, {"itc", "itc_vl", "pooler", "itm_head", "mlm_head", "vqa_head", "nlvr2_head"}),
    ],
)
def test_heads_bring_their_modules_only(heads, modules):
    assert top_level(heads=heads) == modules
    assert tiny.params(heads=heads)["modality_type"].shape[0] == (3 if "nlvr2" in heads else 2)


def test_default_is_stage_3():
    shapes = lambda **fields: jax.tree.map(np.shape, tiny.params(**fields))
    assert shapes() == shapes(
        experts=("image", "text", "vision_language"), heads=("itc", "itm", "mlm")
    )


def test_stage_2_has_no_vision_language_experts():
    stage_2, stage_3 = tiny.params(experts=("image", "text")), tiny.params()
    count = lambda params, stack: params["transformer"][stack]["experts"]["stacked"]["up"][
        "bias"
    ].shape[1]
    assert [count(p, s) for p in (stage_2, stage_3) for s in ("lower", "upper")] == [2, 2, 2, 3]
    model = tiny.model(stage_2, experts=("image", "text"))
    batch = tiny.make_batch(2)
    states = model.encode_text(model.embed_text(batch["token_ids"]), batch["token_mask"])
    # The image and text experts are the first two of stage 3's, so the text path is the same.
    copied = jax.tree.map(
        lambda wide, narrow: (
            jnp.asarray(wide)[:, : narrow.shape[1]] if wide.shape != narrow.shape else wide
        ),
        stage_3,
        stage_2,
    )
    expected = tiny.model(stage_3)
    expected = expected.encode_text(expected.embed_text(batch["token_ids"]), batch["token_mask"])
    found = tiny.model(copied, experts=("image", "text"))
    found = found.encode_text(found.embed_text(batch["token_ids"]), batch["token_mask"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(states - expected).max() > 1e-3


def test_answers_read_the_pooled_first_token():
    model = tiny.model(tiny.params(heads=("vqa",), num_answers=7), heads=("vqa",), num_answers=7)
    batch = tiny.make_batch(2)
    image = batch["image"] / np.float32(127.5) - 1
    logits = model.answer(image, batch["token_ids"], batch["token_mask"])
    states = model.encode_fused(
        model.embed_text(batch["token_ids"]), batch["token_mask"], model.embed_image(image)
    )
    pooled = jnp.tanh(states[:, 0] @ model.pooler.dense.kernel[...] + model.pooler.dense.bias[None])
    head = model.vqa_head
    hidden = pooled @ head.dense.kernel[...] + head.dense.bias[None]
    assert hidden.shape == (2, 32) and logits.shape == (2, 7)
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / jnp.sqrt(
        hidden.var(-1, keepdims=True) + 1e-5
    )
    hidden = jax.nn.gelu(hidden * head.norm.scale[None] + head.norm.bias[None], approximate=False)
    np.testing.assert_allclose(
        logits, hidden @ head.out.kernel[...] + head.out.bias[None], atol=1e-4
    )


def test_comparison_pools_each_image_with_its_own_type():
    model = tiny.model(tiny.params(heads=("nlvr2",)), heads=("nlvr2",))
    batch = tiny.make_batch(4)
    image = batch["image"] / np.float32(127.5) - 1
    first, second, ids, mask = image[:2], image[2:], batch["token_ids"][:2], batch["token_mask"][:2]
    logits = model.compare(first, second, ids, mask)
    text = model.embed_text(ids)
    types = model.modality_type[...]
    pooled = [
        model.pooler(
            model.encode_fused(text, mask, model.image_embedding(image) + types[row][None, None])[
                :, 0
            ]
        )
        for row, image in ((1, first), (2, second))
    ]
    np.testing.assert_allclose(
        logits, model.nlvr2_head(jnp.concatenate(pooled, axis=-1)), atol=1e-4
    )
    assert logits.shape == (2, 2)
    assert np.abs(logits - model.compare(second, first, ids, mask)).max() > 1e-3


def test_dropout_draws_by_key():
    fields = dict(heads=("vqa", "nlvr2"), drop_path_rate=0.5, num_answers=3)
    model, batch = tiny.model(tiny.params(**fields), **fields), tiny.make_batch(4)
    image = batch["image"] / np.float32(127.5) - 1
    for logits in (
        lambda key: model.answer(image, batch["token_ids"], batch["token_mask"], key),
        lambda key: model.compare(image, image[::-1], batch["token_ids"], batch["token_mask"], key),
    ):
        off, one, again, other = logits(None), *(logits(jax.random.key(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one, again)
        assert np.abs(one - off).max() > 1e-3 and np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            dict(heads=("itm", "irtr")),
            (
                r"heads=\('itm', 'irtr'\): 'irtr' unknown; use some of itc, itm, mlm, retrieval,"
                r" vqa, nlvr2"
            ),
        ),
        (
            dict(experts=("image",)),
            r"experts=\('image',\) is not allowed; use \('image', 'text'\) \(stage 2\) or",
        ),
        (dict(experts=("text", "image")), "is not allowed"),
    ],
)
def test_refusals(fields, message):
    with pytest.raises(ValueError, match=message), nnx.use_eager_sharding(False):
        tiny.graphdef(**fields)
