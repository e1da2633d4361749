"""What cuDNN's kernel would be called with gives what XLA gives; where it cannot be, XLA it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.layers import attention_paths
from vlmo_jax.layers.attention_paths import KeyValues, PaddedAtEnd, attend, cudnn_arguments
from vlmo_jax.models.build import check_model
from vlmo_jax.parallel.sharding import make_mesh

ROWS, HEADS, WIDTH = 3, 2, 8


@pytest.fixture
def prepared_for_cudnn(monkeypatch):
    """Everything that fits goes through cuDNN's arguments, and through XLA from there."""
    shapes = []
    prepare = attention_paths.cudnn_arguments

    def note(q, seen, *, mask, bias, scale):
        shapes.append((q.shape[2], bias is not None, mask is not None))
        return prepare(q, seen, mask=mask, bias=bias, scale=scale)

    monkeypatch.setattr(attention_paths, "cudnn_arguments", note)
    monkeypatch.setattr(attention_paths, "IMPLEMENTATION", "xla")
    monkeypatch.setattr(attention_paths, "why_not_cudnn", lambda *of: "")
    return shapes


def inputs(tokens, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    q, k, v = (draw(ROWS, HEADS, tokens, WIDTH).astype(dtype) for _ in range(3))
    lengths = jnp.asarray([[tokens], [tokens - 2], [1]])
    mask = PaddedAtEnd(jnp.arange(tokens)[None] < lengths)
    return q, KeyValues(k, v), mask, draw(1, HEADS, tokens, tokens)


@pytest.mark.parametrize("tokens", [6, 7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_sums_and_gradients_of_prepared_arguments(prepared_for_cudnn, tokens, masked, biased):
    q, seen, mask, bias = inputs(tokens)
    mask, bias = mask if masked else None, bias if biased else None
    weights = jnp.sin(jnp.arange(ROWS * tokens * HEADS * WIDTH)).reshape(ROWS, tokens, HEADS, WIDTH)

    @functools.partial(jax.jit, static_argnames="path")
    def run(q, seen, bias, path):
        def total(q, seen, bias):
            y = attend(q, seen, mask=mask, bias=bias, path=path)
            return (weights * y).sum(), y

        return jax.value_and_grad(total, (0, 1, 2) if biased else (0, 1), True)(q, seen, bias)

    found, expected = run(q, seen, bias, "cudnn"), run(q, seen, bias, "xla")
    assert prepared_for_cudnn == [(tokens, biased, masked)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, expected)
    assert all(np.abs(grad).max() > 0.1 for grad in jax.tree.leaves(expected[1]))


def test_what_cudnn_is_called_with():
    q, seen, mask, bias = inputs(7, jnp.bfloat16)
    arguments = cudnn_arguments(q, seen, mask=mask, bias=bias)
    assert arguments["query"].shape == arguments["value"].shape == (ROWS, 8, HEADS, WIDTH)
    assert arguments["bias"].shape == (1, HEADS, 8, 8) and arguments["bias"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(arguments["key_value_seq_lengths"], [7, 5, 1])
    np.testing.assert_array_equal(arguments["query_seq_lengths"], [7, 7, 7])
    even = cudnn_arguments(*inputs(6)[:2], mask=None, bias=None)
    assert sorted(even) == ["key", "query", "scale", "value"]


@pytest.mark.parametrize("position", ["relative", "absolute"])
def test_the_whole_model_by_cudnns_arguments(prepared_for_cudnn, position):
    fields = dict(position=position, layer_scale=0.1 if position == "relative" else 0.0)
    batch = tiny.make_batch(4)
    image = jnp.asarray(batch["image"], jnp.float32) / 127.5 - 1

    @functools.partial(jax.jit, static_argnames="attention")
    def run(params, attention):
        def losses(params):
            model = tiny.model(params, attention=attention, **fields)
            text = model.embed_text(batch["token_ids"])
            states = model.encode_fused(text, batch["token_mask"], model.embed_image(image))
            features = (
                model.image_features(image),
                model.text_features(batch["token_ids"], batch["token_mask"]),
            )
            total = jnp.sin(states).sum() + sum(jnp.sin(x).sum() for x in sum(features, ()))
            return total, (states, features)

        return jax.value_and_grad(losses, has_aux=True)(params)

    params = tiny.params(**fields)
    found, expected = run(params, "cudnn"), run(params, "xla")
    fused = tiny.LENGTH + 5
    even = lambda tokens: tokens + tokens % 2
    assert {tokens for tokens, _, _ in prepared_for_cudnn} == set(
        map(even, (5, tiny.LENGTH, fused))
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-4), found, expected
    )


@pytest.mark.parametrize(
    "mask, bias",
    [
        (jnp.ones((ROWS, 1, 1, 6), bool), None),  # may have holes
        (jnp.ones((1, 1, 6, 6), bool), None),  # query by key
        (None, jnp.zeros((ROWS, HEADS, 6, 6))),  # of each row
    ],
)
def test_other_masks_stay_with_xla(prepared_for_cudnn, mask, bias):
    q, seen, _, _ = inputs(6)
    attend(q, seen, mask=mask, bias=bias, path="cudnn")
    attend(q[:, :, :2], seen, path="cudnn")  # some queries, all keys
    attend(q, seen, path="auto")  # fewer tokens than pay
    assert not prepared_for_cudnn


def test_a_kernel_that_fails_its_trial_is_not_taken(monkeypatch, caplog):
    monkeypatch.setattr(attention_paths, "for_nvidia", lambda: True)
    monkeypatch.setattr(attention_paths, "on_nvidia", lambda: True)
    monkeypatch.setattr(attention_paths, "LEAST_TOKENS", 6)
    q, seen, mask, bias = inputs(6, jnp.bfloat16)
    with jax.set_mesh(make_mesh()):
        found = jax.jit(lambda: attend(q, seen, mask=mask, bias=bias, path="auto"))()
        attend(q, seen, mask=mask, bias=bias, path="auto")
    np.testing.assert_array_equal(found, jax.jit(lambda: attend(q, seen, mask=mask, bias=bias))())
    [line] = caplog.messages  # once
    assert "without cuDNN's fused kernel" in line and "6 tokens, 2 heads of 8, bfloat16" in line


def test_a_kernel_that_is_off_is_not_taken(monkeypatch, caplog):
    monkeypatch.setattr(attention_paths, "for_nvidia", lambda: True)
    monkeypatch.setattr(attention_paths, "on_nvidia", lambda: True)
    monkeypatch.setattr(attention_paths, "LEAST_TOKENS", 6)
    monkeypatch.setattr(attention_paths, "_trial", lambda *shape: float("nan"))
    attention_paths.failed_trial.cache_clear()
    q, seen, mask, _ = inputs(6, jnp.bfloat16)
    attend(q, seen, mask=mask, path="auto")
    assert "nan% off" in caplog.text
    attention_paths.failed_trial.cache_clear()


def test_a_trial_of_equal_kernels_finds_them_equal(prepared_for_cudnn):
    assert attention_paths._trial(7, 2, 8, "bfloat16", True) < attention_paths.NEAR
    assert prepared_for_cudnn


@pytest.mark.parametrize(
    "fields, reason",
    [
        (dict(attention="cudnn"), "it runs on NVIDIA GPUs, and this is a CPU; use 'auto' or 'xla'"),
        (dict(attention="fast"), "use one of auto, xla, cudnn"),
    ],
)
def test_what_cannot_be_is_refused(fields, reason):
    model = {**tiny.config().model, **fields}
    with pytest.raises(ConfigError, match=f"config.model.attention=.*{reason}"):
        check_model(model, (1, 1, 1))


def test_reasons(monkeypatch):
    monkeypatch.setattr(attention_paths, "for_nvidia", lambda: True)
    why = attention_paths.why_not_cudnn
    assert why(jnp.bfloat16, 64) == ""
    assert "float32" in why(jnp.float32, 64) and "132" in why(jnp.bfloat16, 132)
    assert "config.mesh.tensor=2" in why(jnp.bfloat16, 64, 2)
