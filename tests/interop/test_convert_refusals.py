"""What conversion refuses, with what a user can do about it, and no trace of it left."""

import numpy as np
import pytest

from tests.interop.official_weights import weights
from tests.paths import DATA
from vlmo_jax.interop import convert as conversion


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: {k: v for k, v in t.items() if k != "pooler.dense.bias"},
            r"missing \['pooler.dense.bias'\]; unexpected none",
        ),
        (
            lambda t: {**t, "extra.weight": np.zeros(2, np.float32)},
            r"missing none; unexpected \['extra.weight'\]",
        ),
        (
            lambda t: {**t, "pooler.dense.bias": np.zeros(31, np.float32)},
            r"pooler.dense.bias: shape \(31,\), not \(32,\)",
        ),
        (
            lambda t: {**t, "token_type_embeddings.weight": np.zeros((3, 32), np.float32)},
            r"token_type_embeddings.weight: shape \(3, 32\)",
        ),
        (
            lambda t: {**t, "pooler.dense.bias": np.full(32, np.nan, np.float32)},
            "pooler.dense.bias: 32 of 32 values are not finite",
        ),
        (
            lambda t: {**t, "pooler.dense.bias": np.full(32, 0.1)},
            "pooler.dense.bias: float64, where float32 is wanted, which cannot hold .*0.1.* and 31",
        ),
        (
            lambda t: {f"backbone.{k}": v for k, v in t.items()},
            "this is no VLMo: missing .*; it has backbone",
        ),
        (
            lambda t: {k.removeprefix("transformer."): v for k, v in t.items()},
            "it looks like a BEiT: use --from=beit",
        ),
        (lambda t: {"blocks.input.w": np.zeros((4, 3, 7, 7), np.float32)}, "use --from=dalle"),
        (
            lambda t: {**t, "transformer.patch_embed.proj.weight": np.zeros((32, 192), np.float32)},
            "which should have 4 axes",
        ),
        (
            lambda t: {**t, "transformer.patch_embed.proj.weight": np.zeros((32, 3, 0, 0))},
            "which should have 4 axes that are not empty",
        ),
        (
            lambda t: {**t, "transformer.blocks.999999999.norm1.bias": np.zeros(32, np.float32)},
            "tensors are not those of a model with a layer 999999999",
        ),
        (
            lambda t: {**t, "pooler.dense.bias": np.full(32, 2**24 + 1)},
            "pooler.dense.bias: int64, where float32 is wanted, which cannot hold .*16777217",
        ),
        (
            lambda t: {**t, "pooler.dense.bias": np.zeros(32, np.complex64)},
            "pooler.dense.bias: complex64",
        ),
    ],
)
def test_other_models_are_refused_without_a_trace(tmp_path, source, change, message):
    file = source(change(weights("tiny_base_pretrain")))
    with pytest.raises(ValueError, match=f"source.safetensors: .*{message}"):
        conversion.convert(file, tmp_path / "ours", "vlmo", image_size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_refusals(tmp_path, source, monkeypatch):
    file = source(weights("tiny_base_pretrain"))
    with pytest.raises(
        ValueError,
        match=r"94 rows are not those of texts of 196 tokens.* give --image_size .*\(4, 20\)",
    ):
        conversion.convert(file, tmp_path / "ours", "vlmo")
    with pytest.raises(ValueError, match="94 rows do not fit 6 x 6 patches"):
        conversion.convert(file, tmp_path / "ours", "vlmo", image_size=48)
    with pytest.raises(ValueError, match="more than the 4 tokens"):
        conversion.convert(file, tmp_path / "ours", "vlmo", image_size=40)
    vocabulary = tmp_path / "larger.txt"
    vocabulary.write_text(
        (DATA / "wordpiece_vocab.txt").read_text()
        + "".join(f"extra{number}\n" for number in range(200))
    )
    with pytest.raises(
        ValueError, match=r"larger.txt: \d+ tokens, but the checkpoint has words for 200"
    ):
        conversion.convert(
            file, tmp_path / "ours", "vlmo", image_size=32, tokenizer=str(vocabulary)
        )
    plus = source(weights("tiny_plus_pretrain"), "plus.safetensors")
    with pytest.raises(ValueError, match="0 heads do not fit width 32.*give --num_heads"):
        conversion.convert(plus, tmp_path / "ours", "vlmo")
    with pytest.raises(
        ValueError,
        match="--image_size=48 does not fit transformer.pos_embed, which is made for 32 pixels",
    ):
        conversion.convert(plus, tmp_path / "ours", "vlmo", image_size=48)
    monkeypatch.setattr(
        conversion, "save_params", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        conversion.convert(file, tmp_path / "ours", "vlmo", image_size=32)
    assert {path.name for path in tmp_path.iterdir()} == {
        "source.safetensors",
        "plus.safetensors",
        "larger.txt",
    }
    with pytest.raises(FileExistsError, match="choose another name"):
        conversion.convert(file, file, "vlmo")
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        conversion.export(tmp_path, tmp_path / "out", "vlmo")
    with pytest.raises(ValueError, match="suffix '.h5' is not known; use one of .safetensors"):
        conversion.export(tmp_path, tmp_path / "out.h5", "vlmo")
