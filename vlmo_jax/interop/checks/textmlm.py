"""Kind `textmlm`: stage 2, from BEiT's weights to the loss and the gradients of what is trained."""

import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import EXPERT_AXIS
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.interop.beit import beit_places, from_beit
from vlmo_jax.interop.checks.outputs import model_outputs
from vlmo_jax.interop.checks.reference import (
    OUTPUT_TOLERANCE,
    Arrays,
    Info,
    Reference,
    compare_buffers,
    compare_gradients,
    compare_inputs,
    official_batch,
)
from vlmo_jax.interop.places import Place
from vlmo_jax.interop.vlmo import from_official, to_official
from vlmo_jax.objectives.masked_language import masked_language_loss
from vlmo_jax.training.partition import Partition

# What stage 2 takes from stage 1, starts from the seed, and leaves as it is (the last where blocks
# have gammas): the rules of configs/common.py and configs/stage2.py.
INIT_RULES = (
    (r"image_embedding/mask_token|mim_head/.*", "skip"),
    (
        r"transformer/relative_position_bias|(image|text)_embedding/position|modality_type",
        "resample",
    ),
    (r".*", "copy"),
)
INIT_FRESH = (
    r"transformer/blocks/experts/text/.*",
    r"transformer/relative_position_bias/text_rows",
    r"(text_embedding|mlm_head)/.*",
    r"modality_type",
    r"transformer/norm/.*",
)
FROZEN = (
    r"image_embedding/.*",
    r"transformer/(lower|upper)/(norm|attention)/.*",
    r"transformer/(lower|upper)/experts/image/.*",
)
FROZEN_SCALES = (r"transformer/(lower|upper)/(attention|expert)_scale",)


def start_from_beit(reference: Reference) -> tuple[dict[str, np.ndarray], set[str]]:
    """What our converter and our warm start make of a BEiT checkpoint and a model's own
    initialisation.

    Args:
        reference: Reference with the groups `beit` and `before`.

    Returns:
        The tensors of the VLMo to start from by official name, and BEiT's names that were left out.

    Raises:
        ValueError: tensors that are no BEiT, or that stage 2's rules do not explain.
    """
    beit, sizes, aside = from_beit(
        reference.group("beit"),
        num_heads=reference.fields["num_heads"],
        num_upper=reference.fields["num_upper"],
    )
    before, unread = from_official(reference.group("before"), reference.places, reference.position)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        nnx.to_pure_dict(reference.abstract),
    )
    image_size = reference.grid * reference.fields["patch_size"]
    with tempfile.TemporaryDirectory() as directory:
        meta = {"config": {"model": {"kind": "beit", **sizes.model_fields()}}}
        save_params(pathlib.Path(directory) / "checkpoints", beit, meta)
        params, started = warm_start(
            directory,
            wanted,
            lambda: jax.tree.map(jnp.asarray, before),
            rules=INIT_RULES,
            fresh=INIT_FRESH,
            model={**reference.fields, "image_size": image_size},
        )
    unused = {
        name for name, place in beit_places(sizes).items() if "/".join(place.path) in started.unused
    }
    return to_official(jax.device_get(params), reference.places, unread), unused | set(aside)


def compare_start(reference: Reference, report: Any) -> None:
    """Compares what our loader makes of BEiT's weights, and what it leaves out, with the official
    loader's.
    """
    start, unused = start_from_beit(reference)
    theirs = reference.group("param")
    report.compare_names("param", start, theirs)
    for name in sorted(set(start) & set(theirs)):
        report.compare(f"param/{name}", start[name], theirs[name], 0.0)
    if "unexpected_keys" in reference.info:
        report.compare_names(
            "unused of BEiT",
            _without_tables(f"transformer.{name}" for name in unused),
            _without_tables(reference.info["unexpected_keys"]),
        )


def _without_tables(names: Iterable[str]) -> set[str]:
    """Names but those of tables and their indices, which the official loader takes apart before it
    counts what it does not know.
    """
    return {name for name in names if "relative_position" not in name}


def _trains(choice: bool | tuple[int, ...], place: Place) -> bool:
    """Whether a tensor trains, by what `Partition` says of the array it lies in."""
    return place.at[EXPERT_AXIS] in choice if isinstance(choice, tuple) else choice


def _losses(
    params: Any, graphdef: nnx.GraphDef, batch: dict[str, jax.Array], mlm_tokens: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    model = nnx.merge(graphdef, params)
    states = model.encode_text(model.embed_text(batch["mlm_token_ids"]), batch["token_mask"])[:, 0]
    logits = model.mlm_head(states)
    read = jnp.take_along_axis(logits, batch["mlm_positions"][..., None], axis=1)
    loss = masked_language_loss(read, batch["mlm_labels"]).sum() / mlm_tokens
    return loss, {"mlm_loss": loss, "total_loss": loss, "mlm_logits": logits}


step_gradients = jax.jit(jax.value_and_grad(_losses, has_aux=True), static_argnums=1)


def check_textmlm(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares the start from BEiT, what trains and what is frozen, outputs, loss and gradients.

    Raises:
        ValueError: a gradient is missing.
    """
    reference = Reference(arrays, info)
    params = reference.params("param")
    compare_inputs(reference, report)
    compare_buffers(reference, report)
    compare_start(reference, report)

    rules = FROZEN + (FROZEN_SCALES if reference.fields["layer_scale"] else ())
    partition = Partition.by_rules(nnx.to_pure_dict(reference.abstract), rules)
    trained = {
        name
        for name, place in reference.places.items()
        if _trains(partition.choices[place.path], place)
    }
    without = set(info.get("trainable_but_grad_none", ()))
    report.compare_names("trained", trained | without, info["trainable"])
    missing = sorted(trained - without - set(reference.group("grad")))
    if missing:
        raise ValueError(f"the fixture holds no gradient of {missing}")

    batch = jax.tree.map(jnp.asarray, official_batch(reference.group("in")))
    count = (reference.group("in")["text_labels_mlm"] >= 0).sum()
    (_, ours), grads = step_gradients(params, reference.graphdef, batch, count)
    expected = reference.group("out")
    outputs = model_outputs(
        reference.graphdef, params, batch, tuple(name for name in expected if name not in ours)
    )
    for name, value in expected.items():
        report.compare(f"out/{name}", (ours | outputs)[name], value, OUTPUT_TOLERANCE)
    compare_gradients(reference, report, grads)
