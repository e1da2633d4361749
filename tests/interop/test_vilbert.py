"""Files of ViLBERT's structure are read, used and written back; others are refused by name."""

import json

import jax
import numpy as np
import pytest

from tests.interop.torch_files import TorchFile
from tests.paths import DATA
from vlmo_jax.interop import convert as conversion
from vlmo_jax.interop.convert import convert, export
from vlmo_jax.interop.tensor_files import read_safetensors, read_tensors
from vlmo_jax.interop.vilbert import official_places
from vlmo_jax.models.build import abstract_params, check_model, model_maker

FIXTURE = DATA / "siblings/vilbert"
# Heads of 12-in-1 that have no place here.
OTHERS = {"vil_prediction_gqa.logit_fc.0.weight": (72, 36), "linguisic_logit.bias": (1,)}


@pytest.fixture(scope="module")
def pretrained():
    with np.load(FIXTURE.with_suffix(".npz")) as arrays:
        return {n.removeprefix("param/"): arrays[n] for n in arrays if n.startswith("param/")}


@pytest.fixture(scope="module")
def multi_task(pretrained):
    """The same with tasks: their rows, and all their heads."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    tensors = {**pretrained, "bert.embeddings.task_embeddings.weight": draw(20, 32)}
    for name, width, classes in (("vil_prediction", 36, 9), ("vil_binary_prediction", 72, 2)):
        hidden = 72
        tensors |= {
            f"{name}.logit_fc.0.weight": draw(hidden, width),
            f"{name}.logit_fc.0.bias": draw(hidden),
            f"{name}.logit_fc.2.weight": draw(hidden),
            f"{name}.logit_fc.2.bias": draw(hidden),
            f"{name}.logit_fc.3.weight": draw(classes, hidden),
            f"{name}.logit_fc.3.bias": draw(classes),
        }
    tensors |= {"vil_logit.weight": draw(1, 36), "vil_logit.bias": draw(1)}
    return tensors | {name: draw(*shape) for name, shape in OTHERS.items()}


def write_bin(path, tensors):
    """A pytorch_model.bin: a plain state dict."""
    file = TorchFile()
    return file.write(path, {name: file.tensor(array) for name, array in tensors.items()})


def test_a_pretrained_file_comes_back_as_it_was(pretrained, tmp_path):
    twice = {**pretrained}  # the word table under the decoder's name, as the published file has it
    twice["cls.predictions.decoder.weight"] = pretrained["bert.embeddings.word_embeddings.weight"]
    path = write_bin(tmp_path / "pretrained_model.bin", twice)
    meta = convert(path, tmp_path / "ours", "vilbert")
    model, official = meta["config"]["model"], json.loads(FIXTURE.with_suffix(".json").read_text())
    config = official["config"]
    assert model["kind"] == "vilbert" and model["heads"] == ["itm", "mlm", "region"]
    for ours, theirs in (
        ("co_blocks", "t_biattention_id"),
        ("vision_co_blocks", "v_biattention_id"),
        ("region_classes", "v_target_size"),
        ("region_width", "v_feature_size"),
        ("co_width", "bi_hidden_size"),
        ("vision_mlp_dim", "v_intermediate_size"),
    ):
        assert model[ours] == config[theirs]
    assert meta["preprocessing"] == {"num_regions": 100, "region_width": 20}
    check_model(model, (1, 1, 1))
    aside = set(read_safetensors(tmp_path / "ours/aside.safetensors"))
    unused = set(official["params_without_grad"])
    assert aside == unused | {"cls.predictions.decoder.weight"}
    back = read_tensors(export(tmp_path / "ours", tmp_path / "back.safetensors", "vilbert"))
    assert set(back) == set(twice)
    assert all(np.array_equal(back[name], twice[name]) for name in twice)


def test_a_file_of_twelve_tasks_has_their_heads_and_rows(multi_task, tmp_path):
    path = write_bin(tmp_path / "multi_task_model.bin", multi_task)
    model = convert(path, tmp_path / "ours", "vilbert")["config"]["model"]
    assert model["heads"] == ["itm", "mlm", "region", "rank", "vqa", "nlvr2"]
    assert (model["num_answers"], model["num_tasks"], model["task_row"]) == (9, 20, 1)
    aside = read_safetensors(tmp_path / "ours/aside.safetensors")
    assert set(OTHERS) <= set(aside)
    assert "bert.embeddings.task_embeddings.weight" not in aside
    back = read_tensors(export(tmp_path / "ours", tmp_path / "back.safetensors", "vilbert"))
    assert set(back) == set(multi_task)
    assert all(np.array_equal(back[name], multi_task[name]) for name in multi_task)


def test_every_parameter_of_the_published_size_has_a_name():
    from configs import vilbert

    model = vilbert.get_config("base").model
    shapes = abstract_params(model_maker(model))
    paths = {place.path for place in official_places(model).values()}
    assert paths == {
        tuple(key.key for key in path) for path, _ in jax.tree.leaves_with_path(shapes)
    }


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t: {k: v for k, v in t.items() if k != "bert.t_pooler.dense.bias"},
            r"missing \['bert.t_pooler.dense.bias'\]; unexpected none",
        ),
        (lambda t: {**t, "extra.weight": np.zeros(2, "f4")}, r"unexpected \['extra.weight'\]"),
        (
            lambda t: {**t, "bert.v_pooler.dense.bias": np.zeros(3, np.float32)},
            r"bert.v_pooler.dense.bias: shape \(3,\), not \(36,\)",
        ),
        (
            lambda t: {**t, "cls.predictions.decoder.weight": np.ones((200, 32), np.float32)},
            "cls.predictions.decoder.weight is not bert.embeddings.word_embeddings.weight",
        ),
        (
            lambda t: {**t, "bert.v_pooler.dense.bias": np.full(36, np.nan, np.float32)},
            "36 of 36 values are not finite",
        ),
        (
            lambda t: {**t, "bert.encoder.c_layer.0.biattention.query1.weight": np.zeros(3, "f4")},
            "should have 2 axes",
        ),
        (
            lambda t: {k: v for k, v in t.items() if "v_embeddings" not in k},
            "this is no ViLBERT: missing .*v_embeddings.image_embeddings",
        ),
    ],
)
def test_others_are_refused_without_a_trace(pretrained, tmp_path, change, message):
    path = write_bin(tmp_path / "source.bin", change(pretrained))
    with pytest.raises(ValueError, match=f"source.bin: .*{message}"):
        conversion.convert(path, tmp_path / "ours", "vilbert")
    assert [found.name for found in tmp_path.iterdir()] == ["source.bin"]


def test_hints_are_of_no_use(pretrained, tmp_path):
    path = write_bin(tmp_path / "source.bin", pretrained)
    with pytest.raises(ValueError, match="--num_heads is of no use with --from=vilbert"):
        conversion.convert(path, tmp_path / "ours", "vilbert", num_heads=3)
