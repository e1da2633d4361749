"""Kind `textmlm`: stage 2, from BEiT's weights to the loss and the gradients of what is trained."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.interop.outputs import model_outputs
from vlmo_jax.interop.reference import (
    OUTPUT_TOLERANCE, Reference, compare_buffers, compare_gradients, compare_inputs, official_batch,
)  # fmt: skip
from vlmo_jax.objectives.masked_language import masked_language_loss
from vlmo_jax.param_names import EXPERT_AXIS
from vlmo_jax.partition import Partition

# Parameters that stage 2 leaves as they are: the rules of configs/stage2.py, the second where blocks have gammas.
FROZEN = (
    r"image_embedding/.*",
    r"transformer/(lower|upper)/(norm|attention)/.*",
    r"transformer/(lower|upper)/experts/image/.*",
)
FROZEN_SCALES = (r"transformer/(lower|upper)/(attention|expert)_scale",)


def official_start(beit, before, depth):
    """What the official loader makes of a BEiT checkpoint and a model's own initialisation.

    Args:
      beit: tensors of a BEiT checkpoint by name; per-layer or shared tables of relative position.
      before: tensors of a VLMo by name.
      depth: blocks.

    Returns:
      The tensors of the VLMo to start from, and BEiT's names that were used.
    """
    start, used = dict(before), set()
    for name, value in beit.items():
        target = "transformer." + re.sub(r"(blocks\.\d+\.)(norm2|mlp)\b", r"\1\2_imag", name)
        if target in before:
            start[target] = value
            used.add(name)
    tables = [f"blocks.{layer}.attn.relative_position_bias_table" for layer in range(depth)]
    shared = "rel_pos_bias.relative_position_bias_table"
    tables = [shared] * depth if shared in beit else tables
    if "relative_position_bias_table" in before and set(tables) <= set(beit):
        rows = np.concatenate([beit[name] for name in tables], axis=1)
        start["relative_position_bias_table"] = np.concatenate([rows, before["relative_position_bias_table"][len(rows) :]])
        used.update(tables)
    return start, used


def _trains(choice, place):
    return place.index[EXPERT_AXIS] in choice if isinstance(choice, tuple) else choice


def _losses(params, graphdef, batch, mlm_tokens):
    model = nnx.merge(graphdef, params)
    states = model.encode_text(model.embed_text(batch["mlm_token_ids"]), batch["token_mask"])[:, 0]
    logits = model.mlm_head(states)
    read = jnp.take_along_axis(logits, batch["mlm_positions"][..., None], axis=1)
    loss = masked_language_loss(read, batch["mlm_labels"]).sum() / mlm_tokens
    return loss, {"mlm_loss": loss, "total_loss": loss, "mlm_logits": logits}


step_gradients = jax.jit(jax.value_and_grad(_losses, has_aux=True), static_argnums=1)


def check_textmlm(arrays, info, report):
    """Compares the start from BEiT, the split into frozen and trained, outputs, loss and gradients."""
    reference = Reference(arrays, info)
    params = reference.params("param")
    compare_inputs(reference, report)
    compare_buffers(reference, report)
    start, used = official_start(reference.group("beit"), reference.group("before"), info["model"]["depth"])
    theirs = reference.group("param")
    report.compare_names("param", start, theirs)
    for name in sorted(set(start) & set(theirs)):
        report.compare(f"param/{name}", start[name], theirs[name], 0.0)
    # The official loader takes tables apart before it counts what it does not know.
    without_tables = lambda names: {name for name in names if "relative_position" not in name}
    unused = {f"transformer.{name}" for name in set(reference.group("beit")) - used}
    if "unexpected_keys" in info:
        report.compare_names("unused of BEiT", without_tables(unused), without_tables(info["unexpected_keys"]))

    rules = FROZEN + (FROZEN_SCALES if reference.fields["layer_scale"] else ())
    partition = Partition.by_rules(nnx.to_pure_dict(reference.abstract), rules)
    trained = {name for name, place in reference.places.items() if _trains(partition.choices[place.path], place)}
    without = set(info.get("trainable_but_grad_none", ()))
    report.compare_names("trained", trained | without, info["trainable"])
    missing = sorted(trained - without - set(reference.group("grad")))
    if missing:
        raise ValueError(f"the fixture holds no gradient of {missing}")

    batch = {name: jnp.asarray(value) for name, value in official_batch(reference.group("in")).items()}
    count = (reference.group("in")["text_labels_mlm"] >= 0).sum()
    (_, ours), grads = step_gradients(params, reference.graphdef, batch, count)
    expected = reference.group("out")
    outputs = model_outputs(reference.graphdef, params, batch, tuple(name for name in expected if name not in ours))
    for name, value in expected.items():
        report.compare(f"out/{name}", (ours | outputs)[name], value, OUTPUT_TOLERANCE)
    compare_gradients(reference, report, grads)
