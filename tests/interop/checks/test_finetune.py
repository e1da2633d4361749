"""Fine-tuning heads: the stored arrays hold, NLVR2 and retrieval by the same rules, and every
change is noticed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.interop.checks.changes import failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import Reference, load_fixture, official_batch
from vlmo_jax.interop.vlmo import to_official

FIXTURES = DATA / "vlmo"


@pytest.fixture(scope="module")
def vqa():
    return load_fixture(FIXTURES / "tiny_base_vqa.npz")


def other_task(vqa, kind, tensors, loss):
    """A fixture of another kind made from VQA's; `loss(model, batch)` gives the loss and outputs by
    name.
    """
    arrays, info = vqa
    arrays = {
        key: a
        for key, a in arrays.items()
        if key.split("/")[0] in ("in", "buffer", "param") and "vqa" not in key
    }
    info = {**info, "kind": kind}
    tensors(arrays, np.random.default_rng(0))
    reference = Reference(arrays, info)
    batch = jax.tree.map(jnp.asarray, official_batch(reference.group("in")))

    def run(params):
        return loss(nnx.merge(reference.graphdef, params), batch)

    with jax.default_matmul_precision("highest"):
        (_, out), grads = jax.jit(jax.value_and_grad(run, has_aux=True))(reference.params("param"))
    grads = to_official(grads, reference.places)
    arrays |= {f"out/{name}": np.asarray(value) for name, value in out.items()}
    keep = ("pooler", "itc", "nlvr2", "logit", "relative", "token_type", "transformer.norm")
    arrays |= {
        f"grad/{name}": np.asarray(value) for name, value in grads.items() if name.startswith(keep)
    }
    return arrays, info


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(
        jax.nn.log_softmax(logits), jnp.asarray(labels)[:, None], axis=1
    ).mean()


@pytest.fixture(scope="module")
def nlvr2(vqa):
    answers = np.array([1, 0, 1])

    def tensors(arrays, rng):
        draw = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
        image = arrays.pop("in/image")
        arrays |= {"in/image_0": image, "in/image_1": draw(*image.shape), "in/answers": answers}
        types = arrays["param/token_type_embeddings.weight"]
        arrays["param/token_type_embeddings.weight"] = np.concatenate(
            [types, draw(1, types.shape[1])]
        )
        shapes = {
            "0.weight": (64, 64),
            "0.bias": (64,),
            "1.weight": (64,),
            "1.bias": (64,),
            "3.weight": (2, 64),
            "3.bias": (2,),
        }
        arrays |= {f"param/nlvr2_classifier.{name}": draw(*shape) for name, shape in shapes.items()}

    def loss(model, batch):
        text, types, out = model.embed_text(batch["token_ids"]), model.modality_type[...], {}
        for number in (0, 1):
            image = model.image_embedding(batch[f"image_{number}"]) + types[1 + number][None, None]
            states = model.encode_fused(text, batch["token_mask"], image)
            out[f"infer{number + 1}/text_feats"] = states[:, :12]
            out[f"infer{number + 1}/cls_feats"] = model.pooler(states[:, 0])
        logits = model.nlvr2_head(
            jnp.concatenate([out["infer1/cls_feats"], out["infer2/cls_feats"]], axis=-1)
        )
        loss = cross_entropy(logits, answers)
        return loss, out | {
            "nlvr2_loss": loss,
            "nlvr2_logits": logits,
            "nlvr2_labels": jnp.asarray(answers),
            "total_loss": loss,
        }

    return other_task(vqa, "nlvr2", tensors, loss)


@pytest.fixture(scope="module")
def irtr(vqa):
    def tensors(arrays, rng):
        arrays |= {
            f"param/itc_{name}_proj.fc.weight": rng.normal(0, 0.3, (32, 32)).astype(np.float32)
            for name in ("image", "text")
        }
        arrays["param/logit_scale"] = np.asarray(1.5, np.float32)

    def loss(model, batch):
        image = model.encode_image(model.embed_image(batch["image"]))[:, 0]
        text = model.encode_text(model.embed_text(batch["token_ids"]), batch["token_mask"])[:, 0]
        image_cls, text_cls = (
            model.itc.project_image(image[:, 0]),
            model.itc.project_text(text[:, 0]),
        )
        scale = jnp.exp(1.0 * model.itc.logit_scale[...])
        logits = scale * image_cls @ text_cls.T
        loss = (cross_entropy(logits, np.arange(3)) + cross_entropy(logits.T, np.arange(3))) / 2
        return loss, {
            "irtr_loss": loss,
            "irtr_i2t_logits": logits,
            "irtr_t2i_logits": logits.T,
            "irtr_labels": jnp.arange(3),
            "irtr_logit_scale": scale,
            "infer_image_ft/cls_feats": image_cls,
            "infer_image_ft/image_feats": image,
            "infer_text_ft/cls_feats": text_cls,
            "infer_text_ft/text_feats": text,
        }

    arrays, info = other_task(vqa, "irtr", tensors, loss)
    unused = [
        key.removeprefix("param/")
        for key in arrays
        if key.startswith("param/") and ("_vl." in key or "pooler" in key)
    ]
    return arrays, {**info, "grad_none": unused}


@pytest.mark.parametrize("kind", ["vqa", "nlvr2", "irtr"])
def test_arrays_hold_and_every_changed_result_is_noticed(kind, request):
    arrays, info = request.getfixturevalue(kind)
    assert failures(arrays, info) == set()
    results = {
        key: moved(value)
        for key, value in arrays.items()
        if key.split("/")[0] in ("out", "grad", "buffer")
    }
    assert len(results) > 10 and failures(arrays, info, results) == set(results)


@pytest.mark.parametrize(
    "kind, keys",
    [
        (
            "vqa",
            [
                "vqa_classifier.0.weight",
                "vqa_classifier.1.bias",
                "pooler.dense.weight",
                "token_type_embeddings.weight",
                "transformer.blocks.2.mlp_vl.fc1.bias",
                "transformer.blocks.1.mlp_imag.fc1.bias",
                "relative_position_bias_table",
            ],
        ),
        ("nlvr2", ["nlvr2_classifier.3.bias", "token_type_embeddings.weight"]),
        (
            "irtr",
            ["itc_text_proj.fc.weight", "logit_scale", "transformer.blocks.3.norm2_imag.weight"],
        ),
    ],
)
def test_changed_weights_are_noticed(kind, keys, request):
    arrays, info = request.getfixturevalue(kind)
    for key in keys:
        noise = (
            np.random.default_rng(0)
            .normal(0, 1e-2, arrays[f"param/{key}"].shape)
            .astype(np.float32)
        )
        assert failures(arrays, info, {f"param/{key}": arrays[f"param/{key}"] + noise}), key


@pytest.mark.parametrize("kind", ["vqa", "nlvr2", "irtr"])
def test_changed_inputs_are_noticed(kind, request):
    arrays, info = request.getfixturevalue(kind)
    for key in [key for key in arrays if key.startswith("in/")]:
        array = np.array(arrays[key])
        place = (
            (0, 2) if array.ndim > 1 else (0,)
        )  # a token that is not masked: of one that is, no more is read than its label
        array[place] = (
            1 - array[place] if key in ("in/text_masks", "in/answers") else array[place] + 1
        )
        assert failures(arrays, info, {key: array}), key


def test_gradients_that_the_official_model_lacks_are_zero(vqa):
    arrays, info = vqa
    without = {key: a for key, a in arrays.items() if key != "grad/pooler.dense.bias"}
    assert failures(without, {**info, "grad_none": ["pooler.dense.bias"]}) == {
        "no grad/pooler.dense.bias"
    }


def test_labels_and_scores_of_the_json_are_the_targets(vqa):
    arrays, info = vqa
    scores = [list(row) for row in info["vqa_scores"]]
    scores[0][0] += 0.5
    assert {"out/vqa_loss", "out/vqa_targets"} <= failures(arrays, {**info, "vqa_scores": scores})


def test_refusals(nlvr2):
    arrays, info = nlvr2
    with pytest.raises(ValueError, match="needs in/answers"):
        failures({key: a for key, a in arrays.items() if key != "in/answers"}, info)
    with pytest.raises(ValueError, match="outputs that are not known: .'other/cls_feats'"):
        failures(arrays, info, {"out/other/cls_feats": np.zeros(3)})
