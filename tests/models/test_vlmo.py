"""What the model's outputs may depend on, and what its gradients may reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import stage3
from tests import tiny
from vlmo_jax.models.build import abstract_model, count_params
from vlmo_jax.models.vlmo import IMAGE_BRANCHES, TEXT_BRANCHES
from vlmo_jax.objectives.masked_language import masked_language_loss
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.retrieval import MATCH_SCORES

POSITIONS = ["relative", "absolute"]


@pytest.fixture(scope="module")
def batch():
    return {name: jnp.asarray(value) for name, value in tiny.make_batch(4).items()}


def images(batch):
    return batch["image"].astype(jnp.float32) / 127.5 - 1


@pytest.fixture(scope="module", params=POSITIONS)
def encoder(request):
    """position, parameters, and a jitted function of (params, token_ids, token_mask, image) to all
    outputs.
    """
    fields = dict(position=request.param, layer_scale=0.1 if request.param == "relative" else 0.0)

    @jax.jit
    def encode(params, token_ids, token_mask, image):
        model = tiny.model(params, **fields)
        states = model.encode_fused(
            model.embed_text(token_ids), token_mask, model.embed_image(image)
        )
        length = token_ids.shape[1]
        return {
            "text": model.encode_text(
                model.embed_text(token_ids), token_mask, branches=TEXT_BRANCHES
            ),
            "text_features": model.text_features(token_ids, token_mask),
            "fused_text": states[:, :length],
            "fused_image": states[:, length:],
            "match": MATCH_SCORES["log_odds"](model.pair_logits(image, token_ids, token_mask)),
        }

    return tiny.params(**fields), encode


def real_tokens(outputs, mask):
    """Outputs as numpy arrays; those of padding tokens are left out."""
    length = mask.shape[1]
    return {
        "text": np.moveaxis(np.asarray(outputs["text"])[:, :, :length], 1, 2)[mask],
        "fused_text": np.asarray(outputs["fused_text"])[:, :length][mask],
        **{name: np.asarray(outputs[name]) for name in ("text_features", "fused_image", "match")},
    }


def test_ids_of_padding_change_nothing(encoder, batch):
    params, encode = encoder
    ids, mask = batch["token_ids"], np.asarray(batch["token_mask"])
    assert not mask.all()
    expected = encode(params, ids, mask, images(batch))
    found = encode(params, jnp.where(mask, ids, 9), mask, images(batch))
    jax.tree.map(
        np.testing.assert_array_equal, real_tokens(found, mask), real_tokens(expected, mask)
    )
    changed = encode(params, ids.at[0, 1].set(9), mask, images(batch))
    assert np.abs(changed["match"] - expected["match"])[0] > 1e-3


def test_count_of_padding_changes_nothing(encoder, batch):
    params, encode = encoder
    ids, mask = batch["token_ids"].at[:, 6:].set(0), np.array(batch["token_mask"])
    mask[:, 6:] = False
    expected = encode(params, ids, mask, images(batch))
    found = encode(params, ids[:, :6], mask[:, :6], images(batch))
    for name, value in real_tokens(found, mask[:, :6]).items():
        np.testing.assert_allclose(
            value, real_tokens(expected, mask[:, :6])[name], atol=1e-5, err_msg=name
        )


def test_reading_some_positions_equals_computing_all(batch):
    params, image = tiny.params(), images(batch)
    read = jnp.asarray([[0, 3], [2, 2], [5, 1], [4, 0]])

    @jax.jit
    def both(params):
        model = tiny.model(params)
        text, mask = model.embed_text(batch["token_ids"]), batch["token_mask"]
        calls = {
            "fused": lambda read: model.encode_fused(
                text, mask, model.embed_image(image), read=read
            )[:, None],
            "image": lambda read: model.encode_image(
                model.embed_image(image),
                branches=IMAGE_BRANCHES,
                read=jnp.minimum(read, 4) if read is not None else None,
            ),
            "text": lambda read: model.encode_text(text, mask, branches=TEXT_BRANCHES, read=read),
        }
        return {name: (call(None), call(read)) for name, call in calls.items()}

    for name, (every, some) in both(params).items():
        rows = jnp.minimum(read, 4) if name == "image" else read
        expected = jnp.take_along_axis(every, rows[:, None, :, None], axis=2)
        np.testing.assert_allclose(some, expected, atol=1e-5, err_msg=name)


def test_branches_equal_separate_passes(batch):
    fields = dict(depth=4, num_upper=2)
    params = tiny.params(**fields)

    @jax.jit
    def passes(params):
        model = tiny.model(params, **fields)
        image, text, mask = (
            model.embed_image(images(batch)),
            model.embed_text(batch["token_ids"]),
            batch["token_mask"],
        )
        together = (
            model.encode_image(image, branches=IMAGE_BRANCHES),
            model.encode_text(text, mask, branches=TEXT_BRANCHES),
        )
        apart = (
            jnp.concatenate(
                [model.encode_image(image, branches=(name,)) for name in IMAGE_BRANCHES], axis=1
            ),
            jnp.concatenate(
                [model.encode_text(text, mask, branches=(name,)) for name in TEXT_BRANCHES], axis=1
            ),
        )
        return (
            together,
            apart,
            model.retrieval_image(images(batch)),
            model.image_features(images(batch))[0],
        )

    together, apart, alone, of_both = passes(params)
    for found, expected in zip(together, apart):
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(expected[:, 0] - expected[:, 1]).max() > 0.1
    np.testing.assert_allclose(alone, of_both, atol=1e-5)


@pytest.fixture(scope="module")
def gradients(batch):
    """Gradients by pass: {pass: {parameter path: numpy array}}."""

    @jax.jit
    def every(params):
        def losses(params):
            model = tiny.model(params)
            embedded = (
                model.embed_text(batch["token_ids"]),
                batch["token_mask"],
                model.embed_image(images(batch)),
            )
            return jnp.stack(
                [
                    sum(jnp.sin(x).sum() for x in model.image_features(images(batch))),
                    sum(
                        jnp.sin(x).sum()
                        for x in model.text_features(batch["token_ids"], batch["token_mask"])
                    ),
                    jnp.sin(model.encode_fused(*embedded)).sum(),
                    jnp.sin(model.encode_image(embedded[2])).sum(),
                ]
            )

        return jax.jacrev(losses)(params)

    flat = {
        "/".join(path): np.asarray(value)
        for path, value in nnx.traversals.flatten_mapping(every(tiny.params())).items()
    }
    return {
        name: {path: value[number] for path, value in flat.items()}
        for number, name in enumerate(("image", "text", "fused", "image_without_branch"))
    }


IMAGE, TEXT, VL = range(3)


@pytest.mark.parametrize(
    "encoded, lower, upper",
    [
        ("image", {IMAGE}, {IMAGE, VL}),
        ("text", {TEXT}, {TEXT, VL}),
        ("fused", {IMAGE, TEXT}, {VL}),
        ("image_without_branch", {IMAGE}, {IMAGE}),
    ],
)
def test_a_pass_reaches_its_own_experts_only(gradients, encoded, lower, upper):
    for path, value in gradients[encoded].items():
        if "/experts/" not in path:
            continue
        reached = {expert for expert in range(value.shape[1]) if np.any(value[:, expert])}
        assert reached == (lower if "/lower/" in path else upper), path


def test_spans_of_a_fused_sequence_go_to_their_own_experts(batch):
    """With one lower block and attention switched off, a span is served as when it is alone."""
    params = tiny.params(depth=2)
    params["transformer"]["lower"]["attention_scale"][:] = 0
    params["transformer"]["upper"]["attention_scale"][:] = 0

    @jax.jit
    def passes(params):
        model = tiny.model(params, depth=2)
        text, image, mask = (
            model.embed_text(batch["token_ids"]),
            model.embed_image(images(batch)),
            batch["token_mask"],
        )
        alone = (
            model.encode_text(text, mask, branches=TEXT_BRANCHES),
            model.encode_image(image, branches=IMAGE_BRANCHES),
        )
        return model.encode_fused(text, mask, image), jnp.concatenate(
            [states[:, 1] for states in alone], axis=1
        )

    found, expected = passes(params)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_lower_blocks_have_no_vision_language_expert(gradients):
    for path, value in gradients["fused"].items():
        if "/experts/" in path:
            assert value.shape[1] == (2 if "/lower/" in path else 3), path


def test_a_pass_reaches_its_own_embedding_and_positions_only(gradients):
    image, text = gradients["image"], gradients["text"]
    assert not any(
        np.any(value) for path, value in image.items() if path.startswith("text_embedding")
    )
    assert not any(
        np.any(value) for path, value in text.items() if path.startswith("image_embedding")
    )
    assert np.any(image["modality_type"][1]) and not np.any(image["modality_type"][0])
    assert np.any(text["modality_type"][0]) and not np.any(text["modality_type"][1])
    image_rows, table = (2 * 2 - 1) ** 2 + 3, "transformer/relative_position_bias"
    assert np.any(image[table][:, :image_rows]) and not np.any(image[table][:, image_rows:])
    assert np.any(text[table][:, image_rows + 2 :]) and not np.any(text[table][:, : image_rows + 2])
    assert np.any(gradients["fused"][table][:, image_rows : image_rows + 2])


def test_pad_row_has_no_gradient(gradients, batch):
    assert (np.asarray(batch["token_ids"]) == 0).any()
    for encoded in ("text", "fused"):
        word = gradients[encoded]["text_embedding/word"]
        assert not np.any(word[0])
        assert all(np.any(word[token]) for token in np.unique(batch["token_ids"]) if token)
        # Row 1 of the segments is never read.
        assert np.any(gradients[encoded]["text_embedding/segment"][0]) and not np.any(
            gradients[encoded]["text_embedding/segment"][1]
        )


def test_masked_language_loss_equals_that_of_all_logits(batch):
    params = tiny.params()

    @jax.jit
    def losses(params):
        model = tiny.model(params)
        embedded = (
            model.embed_text(batch["mlm_token_ids"]),
            batch["token_mask"],
            model.embed_image(images(batch)),
        )
        read = model.mlm_head(model.encode_fused(*embedded, read=batch["mlm_positions"]))
        every = model.mlm_head(model.encode_fused(*embedded)[:, : tiny.LENGTH])
        return masked_language_loss(read, batch["mlm_labels"]).sum(), every

    found, logits = losses(params)
    log_probs, expected = np.asarray(jax.nn.log_softmax(logits), np.float64), 0.0
    for row in range(4):
        for place, label in zip(batch["mlm_positions"][row], batch["mlm_labels"][row]):
            expected -= log_probs[row, place, label] if label >= 0 else 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert expected > 0


@pytest.mark.parametrize(
    "size, count",
    [
        (
            "base",
            202_445_470 - 40 * 768,
        ),  # the official model owns 40 text positions that it never reads
        ("base_plus", 184_980_734),
        ("large", 599_127_102 - 40 * 1024),
    ],
)
def test_parameter_counts(size, count):
    _, abstract = abstract_model(Recipe(stage3.get_config(size)).make_model)
    assert count_params(nnx.to_pure_dict(abstract)) == count


def test_initial_values_follow_the_official_code():
    std = 0.05
    model = Recipe(tiny.config(model=dict(init_std=std, width=64, num_heads=4))).make_model
    with nnx.use_eager_sharding(False):
        flat = {
            "/".join(map(str, path)): np.asarray(value)
            for path, value in nnx.traversals.flatten_mapping(
                nnx.to_pure_dict(nnx.state(model(nnx.Rngs(0))))
            ).items()
        }
    for path, value in flat.items():
        name = path.split("/")[-1]
        if name == "logit_scale":
            assert value == np.float32(np.log(1 / 0.07))
        elif name.endswith("_scale"):
            assert (value == np.float32(0.1)).all(), path
        elif name == "scale":
            assert (value == 1).all(), path
        elif "bias" in name:
            assert (value == 0).all(), path
        else:
            # A normal cut at two deviations has 0.88 of its deviation.
            assert np.abs(value).max() <= 2 * std + 1e-6 and 0.75 * std < value.std() < std, path
