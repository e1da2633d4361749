"""Kind `layer_decay`: how fast each parameter of a BEiT learns when it is fine-tuned, and which
decay.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.interop.beit import FIRST_TABLE, POSITIONS, SHARED_TABLE, BeitSizes, beit_places
from vlmo_jax.interop.checks.reference import Arrays, Info
from vlmo_jax.interop.places import Place, dense_places, norm_places
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.training.layer_decay import layer_factors

RELATIVE_TOLERANCE = 1e-12
BACKBONE = "backbone."
# The norms among the layers of classifiers and segmenters that our BEiT does not have.
NORMS = r"fc_norm|fpn1\.1|.*\.bn"
# The recipes of stage 1 whose rules of weight decay together name all that BEiT's may have.
RECIPES = ("stage1:base", "stage1:base_plus")
BIAS_TABLES = r"transformer/relative_position_bias"


def check_layer_decay(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares the factor of every parameter's rate, and whether it decays, for each case."""
    rules = {rule for recipe in RECIPES for rule in read_config(recipe, {}).optimizer.no_decay}
    for case in info["classification"]:
        arguments = case["arguments"]
        flag = arguments["no_decay_on_rel_pos_bias"] and not arguments["shared_table"]
        _check_case(case, rules | ({BIAS_TABLES} if flag else set()), report)
    # The official list names class token and positions without what stands before them there.
    rules = {rule for rule in rules if not rule.startswith("image_embedding/")}
    for case in info["segmentation"]:
        _check_case(case, rules, report)


def _check_case(case: Info, no_decay: Collection[str], report: Any) -> None:
    wanted = official_parameters(case)
    sizes = beit_sizes(wanted, case["arguments"])
    places = beit_places(sizes)
    places |= places_outside(set(wanted) - set(places))
    leaves = flatten(abstract_params(model_maker({"kind": "beit", **sizes.model_fields()})))
    for place in places.values():
        leaves.setdefault(place.path, np.zeros(1))
    tree = nnx.traversals.unflatten_mapping(leaves)
    factors = flatten(layer_factors(tree, case["arguments"]["layer_decay"], dtype=np.float64))
    decayed = set()
    for name, (factor, _) in wanted.items():
        path, at, _ = places[name]
        ours = np.broadcast_to(factors[path], leaves[path].shape)[at].flat[0]
        report.compare(f"{case['name']}/{name}", ours, factor, RELATIVE_TOLERANCE * factor)
        if not any(re.fullmatch(rule, "/".join(path)) for rule in no_decay):
            decayed.add(name)
    theirs = {name for name, (_, decays) in wanted.items() if decays}
    report.compare_names(f"{case['name']}/decayed", decayed, theirs)


def official_parameters(case: Info) -> dict[str, tuple[float, bool]]:
    """Official name, without what stands before all of a segmenter's encoder, -> factor of the
    rate, and whether it decays.
    """
    named = {**case.get("parameters", {}), **case.get("others", {})}
    parameters = {name.removeprefix(BACKBONE): tuple(row) for name, row in named.items()}
    for layer, factor in enumerate(case.get("block_factor", ())):
        for name, decays in case["block_parameters_decayed"].items():
            parameters[f"blocks.{layer}.{name}"] = factor, decays
    return parameters


def beit_sizes(names: Collection[str], arguments: Info) -> BeitSizes:
    """Sizes of a BEiT with the parts that are named; what the rates do not depend on is small."""
    depth, width = arguments["depth"], arguments["dim"]
    relative = SHARED_TABLE in names or FIRST_TABLE in names
    positions = {(True, True): "both", (True, False): "relative", (False, True): "absolute"}
    return BeitSizes(
        image_size=16,
        patch_size=8,
        width=width,
        depth=depth,
        num_upper=max(1, min(2, depth - 1)),
        num_heads=arguments["heads"],
        mlp_dim=4 * width,
        position=positions[relative, POSITIONS in names],
        shared_table=SHARED_TABLE in names,
        layer_scale="blocks.0.gamma_1" in names,
        vocab_size=None,
        mask_token="mask_token" in names,
        final_norm="norm.weight" in names,
    )


def places_outside(names: Iterable[str]) -> dict[str, Place]:
    """Places that heads and a segmenter's neck would have in our tree: their own, with our words
    for a layer's parts.
    """
    places: dict[str, Place] = {}
    for name in names:
        module = name.rpartition(".")[0]
        places_of = norm_places if re.fullmatch(NORMS, module) else dense_places
        places.update(places_of(module, tuple(module.split("."))))
    return places
