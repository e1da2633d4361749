import json

import jax
import numpy as np
import pytest

import vlmo_jax
from tests.inference.models import pictures, save_stage3
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.commands.folders import TargetExistsError
from vlmo_jax.inference.commands.halve import TooLargeError, halve, main


def test_half_a_model_answers_as_the_whole(folder, model, tmp_path, capsys):
    main([str(folder), str(tmp_path / "half")])
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert f"{count:,} parameters in float16" in capsys.readouterr().out
    saved = SavedParams(tmp_path / "half")
    assert {leaf.dtype for leaf in saved.shapes.values()} == {np.dtype(np.float16)}
    half = vlmo_jax.load(tmp_path / "half")
    for ours, theirs in zip(
        jax.tree.leaves(half.params), jax.tree.leaves(model.params), strict=True
    ):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, np.asarray(theirs).astype(np.float16))
    texts, images = ["a red heart", "rain"], pictures(3)
    np.testing.assert_allclose(half.encode_text(texts), model.encode_text(texts), atol=5e-3)
    np.testing.assert_allclose(half.encode_image(images), model.encode_image(images), atol=5e-3)


def test_models_of_before_take_their_tokenizer_along(tmp_path):
    folder = save_stage3(tmp_path / "run", change=lambda meta: {**meta, "files": {}})
    halve(str(folder), tmp_path / "half")
    meta = SavedParams(tmp_path / "half").meta
    assert list(meta["files"]) == ["tokenizer.model"]
    assert meta["tokenizer"]["file"] == "tokenizer.model" and meta["halved"] == "run/checkpoints/0"
    assert str(tmp_path) not in json.dumps(meta)
    for file in (tmp_path / "half").rglob("commit_success.txt"):
        assert str(tmp_path) not in file.read_text()


def test_answers_go_along(vqa_folder, answering, tmp_path):
    halve(str(vqa_folder), tmp_path / "half")
    half = vlmo_jax.load(tmp_path / "half")
    image = pictures(1)
    assert half.answer(image, ["what is it?"])[0][0][0] in {
        answer for answer, _ in answering.answer(image, ["what is it?"], top_k=3)[0]
    }


def test_refusals(folder, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    with pytest.raises(TargetExistsError, match="there exists; choose another name"):
        halve(str(folder), tmp_path / "there")
    read = SavedParams.read
    monkeypatch.setattr(
        SavedParams,
        "read",
        lambda self, paths: {path: array * 1e9 for path, array in read(self, paths).items()},
    )
    with pytest.raises(TooLargeError, match="has a value of .* float16 holds 6.55e.04 at most"):
        halve(str(folder), tmp_path / "half")
    assert not (tmp_path / "half").exists()
