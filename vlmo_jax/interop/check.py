"""Compares our model with reference arrays of the official one.

    python -m vlmo_jax.interop.check FIXTURE.npz [FIXTURE.npz ...]

prints one line a quantity (name, largest difference, tolerance, ok or not) and ends with status 0
only if all hold. FIXTURE.json beside the arrays gives kind and sizes; kinds `pretrain` (outputs,
losses and every gradient of one step) and `train10` (ten AdamW steps) are understood.

Tolerances: outputs and losses 2e-5; gradients 1e-4 of the tensor's largest entry, at least 1e-6;
the losses of ten steps 1e-4; their parameters 1e-5. All comparisons are float32 at highest precision.
"""

import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from flax import nnx

from vlmo_jax.interop.places import fill_places
from vlmo_jax.interop.vlmo import from_official, is_unread, official_places, to_official
from vlmo_jax.layers.relative_position import image_index, joint_index, position_bias, text_index
from vlmo_jax.models.vlmo import IMAGE_BRANCHES, TEXT_BRANCHES, VLMo
from vlmo_jax.objectives.masked_language import UNUSED
from vlmo_jax.optimizer import adamw, learning_rate_schedule
from vlmo_jax.sharding import make_mesh
from vlmo_jax.tasks.pretrain import PretrainTask
from vlmo_jax.train_step import TrainState, abstract_model, make_train_step, state_shardings

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-4, 1e-6
TRAIN_LOSS_TOLERANCE, TRAIN_PARAM_TOLERANCE = 1e-4, 1e-5


class Report:
    """Collects comparisons and prints each as one line."""

    def __init__(self):
        self.failed = 0

    def compare(self, name, ours, theirs, tolerance):
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if ours.shape != theirs.shape:
            difference, note = math.inf, f"  shapes {ours.shape} and {theirs.shape}"
        else:
            difference, note = np.abs(ours - theirs).max(initial=0.0), ""
        ok = bool(difference <= tolerance)  # NaN is not ok
        self.failed += not ok
        print(f"{'ok    ' if ok else 'NOT OK'}  {difference:9.2e}  <= {tolerance:.1e}  {name}{note}")


class Reference:
    """One fixture: arrays, sizes, our model with its weights, and the map between the two."""

    def __init__(self, path):
        path = pathlib.Path(path)
        for file in (path, path.with_suffix(".json")):
            if not file.is_file():
                raise FileNotFoundError(f"{file}: no such file; a fixture is NAME.npz with NAME.json beside it")
        self.arrays = dict(np.load(path))
        self.info = json.loads(path.with_suffix(".json").read_text())
        sizes, config = self.info["model"], self.info["config"]
        self.position = "absolute" if sizes["use_abs_pos_emb"] else "relative"
        num_upper = sizes["depth"] - sizes["vlffn_start_layer_index"]
        layer_scale = sizes["layer_scale_init_values"]
        self.grid = config["image_size"] // sizes["patch_size"]
        self.places = official_places(
            depth=sizes["depth"], num_upper=num_upper, num_heads=sizes["num_heads"], patch_size=sizes["patch_size"],
            position=self.position, layer_scale=bool(layer_scale),
        )  # fmt: skip

        def make_model(rngs):
            return VLMo(
                image_size=config["image_size"], patch_size=sizes["patch_size"], text_length=config["max_text_len"],
                text_positions=config["max_text_len_of_initckpt"], vocab_size=config["vocab_size"], width=sizes["embed_dim"],
                depth=sizes["depth"], num_heads=sizes["num_heads"], mlp_dim=int(sizes["embed_dim"] * sizes["mlp_ratio"]),
                num_upper=num_upper, position=self.position, layer_scale=layer_scale, rngs=rngs,
            )  # fmt: skip

        self.graphdef, self.abstract = abstract_model(make_model)

    def group(self, prefix):
        """Arrays named prefix/..., without the prefix."""
        return {name[len(prefix) + 1 :]: a for name, a in self.arrays.items() if name.startswith(prefix + "/")}

    def params(self, prefix):
        """The weights stored under a prefix in our layout, their shapes checked against our model."""
        tensors = self.group(prefix)
        params, unread = from_official(tensors, self.places, self.position)
        expected = jax.tree.map(lambda x: x.shape, nnx.to_pure_dict(self.abstract))
        found = jax.tree.map(np.shape, params)
        if expected != found:
            raise ValueError(f"{prefix}: shapes do not fit a model of the sizes in the JSON: {expected} and {found}")
        back = to_official(params, self.places, unread)
        if set(back) != set(tensors) or any(not np.array_equal(back[name], tensors[name]) for name in tensors):
            raise ValueError(f"{prefix}: the way back to the official names is not exact")
        return jax.tree.map(jnp.asarray, params)


def training_batch(arrays):
    """Our batch from the official one: images to NHWC, labels to places and token ids."""
    labels = arrays["text_labels_mlm"]
    masked = labels != -100
    rows = np.arange(len(labels), dtype=np.uint32)
    return {
        "image": arrays["image"].transpose(0, 2, 3, 1),
        "token_ids": arrays["text_ids"],
        "token_mask": arrays["text_masks"].astype(bool),
        "mlm_token_ids": arrays["text_ids_mlm"],
        "mlm_positions": np.where(masked, np.arange(labels.shape[1]), 0).astype(np.int32),
        "mlm_labels": np.where(masked, labels, UNUSED).astype(np.int32),
        "image_id": rows,
        "text_id": rows,
    }


def block_states(model, x, spans, upper_expert, *, mask, index):
    """The states [B, N, D] after every block, bottom up, before the final norm."""
    transformer = model.transformer
    num_lower = transformer.depth - transformer.num_upper
    for number in range(transformer.depth):
        stack, place = (transformer.lower, number) if number < num_lower else (transformer.upper, number - num_lower)
        graphdef, params = nnx.split(stack)
        block = nnx.merge(graphdef, jax.tree.map(lambda p: p[place], params))
        bias = None if index is None else position_bias(transformer.relative_position_bias[number], index)
        x = block.attend(x, mask=mask, bias=bias, rate=0.0, key=None)
        x = block.feed(x, spans if number < num_lower else ((upper_expert, x.shape[1]),), rate=0.0, key=None)
        yield x


@functools.partial(jax.jit, static_argnums=0)
def model_outputs(graphdef, params, batch):
    """Every output of a pre-training fixture, by its name there."""
    model = nnx.merge(graphdef, params)
    out, length = {}, batch["token_ids"].shape[1]
    mask, image = batch["token_mask"], model.embed_image(batch["image"])
    for name, token_ids in (("infer", batch["token_ids"]), ("infer_mlm", batch["mlm_token_ids"])):
        states = model.encode_fused(model.embed_text(token_ids), mask, image)
        out[f"{name}/text_feats"], out[f"{name}/image_feats"] = states[:, :length], states[:, length:]
        out[f"{name}/raw_cls_feats"], out[f"{name}/cls_feats"] = states[:, 0], model.pooler(states[:, 0])
        out[f"{name}/itm_logits"] = model.itm_head(out[f"{name}/cls_feats"])
        out[f"{name}/mlm_logits"] = model.mlm_head(states[:, :length])
    text = model.embed_text(batch["token_ids"])
    masked_text = model.embed_text(batch["mlm_token_ids"])
    fused = jnp.concatenate([text, image], axis=1)
    fused_mask = jnp.pad(mask, ((0, 0), (0, image.shape[1])), constant_values=True)
    text_span, image_span = ("text", length), ("image", image.shape[1])
    joint, of_text, of_image = None, None, None
    if model.relative:
        joint = joint_index(model.grid, length, model.text_positions)
        of_text, of_image = text_index(model.grid, length, model.text_positions), image_index(model.grid)
    blocks = block_states(model, fused, (text_span, image_span), "vision_language", mask=fused_mask, index=joint)
    for number, state in enumerate(blocks):
        out[f"infer/block{number}"] = state
    *_, raw_text = block_states(model, text, (text_span,), "text", mask=mask, index=of_text)
    *_, raw_masked = block_states(model, masked_text, (text_span,), "text", mask=mask, index=of_text)
    *_, raw_image = block_states(model, image, (image_span,), "image", mask=None, index=of_image)

    text_states = model.encode_text(text, mask, branches=TEXT_BRANCHES)
    image_states = model.encode_image(image, branches=IMAGE_BRANCHES)
    text_features = model.text_features(batch["token_ids"], mask)
    image_features = model.image_features(batch["image"])
    for suffix in ("", "_ft"):
        out[f"infer_text{suffix}/text_feats"] = text_states[:, 0]
        out[f"infer_text{suffix}/raw_cls_feats"] = raw_text[:, 0]
        out[f"infer_image{suffix}/image_feats"] = image_states[:, 0]
        out[f"infer_image{suffix}/raw_cls_feats"] = raw_image[:, 0]
    out["infer_text/cls_feats"], out["infer_text/cls_vlffn_feats"] = text_features
    out["infer_image/cls_feats"], out["infer_image/cls_vlffn_feats"] = image_features
    out["infer_text_ft/cls_feats"] = model.retrieval_text(batch["token_ids"], mask)
    out["infer_image_ft/cls_feats"] = model.retrieval_image(batch["image"])
    out["infer_text_mlm/text_feats"] = model.encode_text(masked_text, mask)[:, 0]
    out["infer_text_mlm/raw_cls_feats"] = raw_masked[:, 0]
    return out


def step_outputs(params, graphdef, batch, negatives):
    """Losses and logits of one stage-3 step by their official names, with the negatives of the reference."""
    model, task = nnx.merge(graphdef, params), PretrainTask()
    features = task.features(model, batch, None)
    contrast, shared, metrics = task.contrast(features, batch, jax.random.key(0))
    if negatives is not None:
        shared = shared._replace(image_negatives=negatives[0], text_negatives=negatives[1])
    pairs = {**batch, **task.negatives(batch, shared)}
    fused, fused_metrics = task.fuse(model, pairs, shared, len(batch["token_ids"]), None)
    total = contrast + fused
    scale, scale_vl = jnp.exp(features.logit_scale), jnp.exp(features.logit_scale_vl)
    ids, mask, image = batch["token_ids"], batch["token_mask"], batch["image"]
    ids = jnp.concatenate([batch["mlm_token_ids"], ids, ids, pairs["negative_token_ids"]])
    mask = jnp.concatenate([mask, mask, mask, pairs["negative_token_mask"]])
    image = jnp.concatenate([image, image, pairs["negative_image"], image])
    states = jnp.split(model.encode_fused(model.embed_text(ids), mask, model.embed_image(image)), 4)
    first_tokens = jnp.concatenate([state[:, 0] for state in states[1:]])
    return total, {
        "total_loss": total,
        "mlm_loss": task.mlm_weight * fused_metrics["mlm_loss"],
        "itc_loss": metrics["itc_loss"],
        "itm_loss": fused_metrics["itm_loss"],
        "mlm_logits": model.mlm_head(states[0][:, : batch["token_ids"].shape[1]]),
        "itc_i2t_logits": scale * features.image @ features.text.T,
        "itc_t2i_logits": scale * features.text @ features.image.T,
        "itc_vl_i2t_logits": scale_vl * features.image_vl @ features.text_vl.T,
        "itc_logit_scale": scale,
        "itc_logit_vl_scale": scale_vl,
        "itm_logits": model.itm_head(model.pooler(first_tokens)),
        "itm_neg_image_idx": shared.image_negatives,
        "itm_neg_text_idx": shared.text_negatives,
    }


step_gradients = jax.jit(jax.value_and_grad(step_outputs, has_aux=True), static_argnums=1)


def expected_buffers(reference):
    """The index buffers of official models by name."""
    config, grid = reference.info["config"], reference.grid
    length, positions = config["max_text_len"], config["max_text_len_of_initckpt"]
    return {
        "text_embeddings.position_ids": np.arange(length)[None],
        "text_embeddings.token_type_ids": np.zeros((1, length)),
        "relative_position_index": image_index(grid),
        "text_relative_position_index": text_index(grid, length, positions),
        "text_imag_relative_position_index": joint_index(grid, length, positions),
    }


def _compare_unmasked_labels(report, arrays, prefix):
    """The official batch carries labels of the unmasked text too; its code masks none of it."""
    report.compare(f"{prefix}/text_labels", np.full_like(arrays["text_labels"], -100), arrays["text_labels"], 0.0)


def check_pretrain(reference, report):
    """Outputs of every mode, one step's losses, and the gradient of every parameter."""
    params = reference.params("param")
    _compare_unmasked_labels(report, reference.group("in"), "in")
    buffers = expected_buffers(reference)
    for name, value in reference.group("buffer").items():
        report.compare(f"buffer/{name}", buffers[name], value, 0.0)
    batch = {name: jnp.asarray(value) for name, value in training_batch(reference.group("in")).items()}
    outputs = model_outputs(reference.graphdef, params, batch)
    expected = reference.group("out")
    known = {name: value for name, value in expected.items() if not name.startswith("step/")}
    for name, value in known.items():
        report.compare(f"out/{name}", outputs[name], value, OUTPUT_TOLERANCE)

    step = reference.group("out/step")
    # A batch of two forces the negatives, so ours are drawn; a larger one takes those the reference drew.
    forced = len(batch["token_ids"]) == 2
    negatives = None if forced else (jnp.asarray(step["itm_neg_image_idx"]), jnp.asarray(step["itm_neg_text_idx"]))
    (_, ours), grads = step_gradients(params, reference.graphdef, batch, negatives)
    report.compare("out/step/itm_labels", np.repeat([1, 0, 0], len(batch["token_ids"])), step.pop("itm_labels"), 0.0)
    for name, value in step.items():
        report.compare(f"out/step/{name}", ours[name], value, OUTPUT_TOLERANCE)

    theirs = reference.group("grad")
    without = sorted(set(reference.places) - set(theirs))
    if without:
        raise ValueError(f"the fixture holds no gradient of {without}")
    ours = to_official(grads, reference.places)
    for name in reference.places:
        tolerance = max(GRADIENT_TOLERANCE * float(np.abs(theirs[name]).max()), GRADIENT_FLOOR)
        report.compare(f"grad/{name}", ours[name], theirs[name], tolerance)


def _by_group(reference, field):
    """A field of the official optimizer's parameter groups as a tree like our parameters."""
    init = reference.group("init")
    value = {name: group[field] for group in reference.info["param_groups"] for name in group["params"]}
    full = {name: np.full(init[name].shape, value[name], np.float32) for name in reference.places}
    return jax.tree.map(jnp.asarray, fill_places(full, reference.places))


def check_train(reference, report):
    """Losses, learning rates and parameters of a run of AdamW steps."""
    config, expected = reference.info["config"], reference.group("out")
    cosine = config["decay_power"] == "cosine"
    schedule = learning_rate_schedule(
        "cosine" if cosine else "polynomial", peak=1.0, warmup_steps=config["warmup_steps"], total_steps=config["max_steps"],
        end=config["end_lr"] / config["learning_rate"], power=1.0 if cosine else config["decay_power"],
    )  # fmt: skip
    group = reference.info["param_groups"][0]
    optimizer = adamw(
        schedule, betas=group["betas"], epsilon=group["eps"],
        decay=_by_group(reference, "weight_decay"), multiplier=_by_group(reference, "lr0"),
    )  # fmt: skip
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        shardings = state_shardings(reference.abstract, optimizer, mesh)
        step = make_train_step(
            PretrainTask(), reference.graphdef, optimizer, schedule, seed=0, mesh=mesh, shardings=shardings
        )
        params = reference.params("init")
        state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), {})
        _compare_unmasked_labels(report, reference.group("batch"), "batch")
        for number in range(len(expected["total_loss"])):
            arrays = {name: value[number] for name, value in reference.group("batch").items()}
            state, metrics = step(state, training_batch(arrays))
            ours = {"total_loss": metrics["loss"], "mlm_loss": PretrainTask.mlm_weight * metrics["mlm_loss"],
                    "itc_loss": metrics["itc_loss"], "itm_loss": metrics["itm_loss"]}  # fmt: skip
            for name, value in ours.items():
                report.compare(f"out/{name}[{number}]", value, expected[name][number], TRAIN_LOSS_TOLERANCE)
            rates = [float(metrics["learning_rate"]) * group["lr0"] for group in reference.info["param_groups"]]
            report.compare(f"out/lr[{number}]", rates, expected["lr"][number], 1e-8)
            if number == 1 and reference.group("after2"):
                _compare_params(reference, report, "after2", state.params)
    _compare_params(reference, report, "final", state.params)


def _compare_params(reference, report, prefix, params):
    ours, theirs = to_official(params, reference.places), reference.group(prefix)
    if prefix == "final" and (missing := sorted(set(ours) - set(theirs))):
        raise ValueError(f"the fixture holds no final value of {missing}")
    for name in sorted(set(ours) & set(theirs)):
        report.compare(f"{prefix}/{name}", ours[name], theirs[name], TRAIN_PARAM_TOLERANCE)
    init = reference.group("init")
    for name in sorted(name for name in theirs if is_unread(name, reference.position)):
        report.compare(f"{prefix}/{name}", init[name], theirs[name], 0.0)  # no gradient: the optimizer leaves it alone


CHECKS = {"pretrain": check_pretrain, "train10": check_train}


def check(path):
    """Checks one fixture file; returns how many quantities do not hold.

    Raises:
      ValueError: a kind that is not known, or arrays that do not fit the sizes.
    """
    reference = Reference(path)
    kind = reference.info["kind"]
    if kind not in CHECKS:
        raise ValueError(f"{path}: kind {kind!r} is not known; known kinds: {', '.join(sorted(CHECKS))}")
    report = Report()
    with jax.default_matmul_precision("highest"):
        CHECKS[kind](reference, report)
    print(f"{path}: {'all hold' if not report.failed else f'{report.failed} do not hold'}")
    return report.failed


def main(argv):
    if len(argv) < 2:
        raise app.UsageError("give at least one FIXTURE.npz")
    return min(sum(check(path) for path in argv[1:]), 1)


if __name__ == "__main__":
    app.run(main)
