"""Names and layouts of VSE-infinity's checkpoints: woodfrog/vse_infty, over regions with BERT.

`model_best.pth` holds its towers in a list, so that the names of the image's begin with "0." and
those of the text's with "1." (see tensor_files).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vlmo_jax.interop.converted import Converted, Tensors, extra_of, refuse_hints
from vlmo_jax.interop.places import (
    LINEAR,
    SAME,
    Layout,
    Place,
    check_depth,
    check_ranks,
    dense_places,
    empty_places,
    fill_places,
    named,
    norm_places,
    wrong_shapes,
)
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.interop.whole_bert import bert_places
from vlmo_jax.models.build import abstract_params, model_maker

NAME = "vse_infinity"
REGIONS = 36  # a record of the published features has
HEAD_WIDTH = 64  # of BERT's attention
# Fields of `config.model` that no checkpoint tells.
RUNTIME = dict(
    text_length=40,
    num_regions=REGIONS,
    pooling="gpo",
    heads=["retrieval"],
    num_answers=3129,
    dropout_rate=0.1,
    init_std=0.02,
    dtype="auto",
    remat="none",
    scan_layers=True,
)
# What the official code owns and our model has no place for.
ASIDE = r"mlp\.bns\.1\..*|.*num_batches_tracked|bert\.pooler\..*|bert\.embeddings\.position_ids"

_ROW = Layout(lambda w: w[0], lambda k: k[None])
_GRU = (
    ("weight_ih_l0", "inputs", LINEAR),
    ("weight_hh_l0", "states", LINEAR),
    ("bias_ih_l0", "input_bias", SAME),
    ("bias_hh_l0", "state_bias", SAME),
)


def pooling_places(prefix: str, root: tuple[str, ...] = ()) -> dict[str, Place]:
    """Where the tensors of a GPO live in a GeneralizedPooling at `root`."""
    places = {f"{prefix}linear.weight": Place((*root, "score"), (), _ROW)}
    for suffix, direction in (("", "forward"), ("_reverse", "backward")):
        for theirs, ours, layout in _GRU:
            places[f"{prefix}gru.{theirs}{suffix}"] = Place((*root, direction, ours), (), layout)
    return places


def encoder_places(prefix: str, root: tuple[str, ...] = (), *, has_mlp: bool) -> dict[str, Place]:
    """Where the tensors of an EncoderImageAggr live in a RegionEncoder at `root`."""
    places = dict(dense_places(f"{prefix}fc", (*root, "dense")))
    if has_mlp:
        mlp = (*root, "mlp")
        places |= dense_places(f"{prefix}mlp.layers.0", (*mlp, "up"))
        places |= dense_places(f"{prefix}mlp.layers.1", (*mlp, "down"))
        places |= norm_places(f"{prefix}mlp.bns.0", (*mlp, "norm"))
        for theirs, ours in (("mean", "running_mean"), ("var", "running_variance")):
            name = f"{prefix}mlp.bns.0.running_{theirs}"
            places[name] = Place((*mlp, "norm", ours), (), SAME)
    return {**places, **pooling_places(f"{prefix}gpool.", (*root, "pooling"))}


def model_places(
    image: str, text: str, *, depth: int, num_heads: int, mlp: bool
) -> dict[str, Place]:
    """Where the tensors of both towers live in a VSEInfinity.

    Args:
        image, text: what their names begin with, such as "0.module.".
        depth, num_heads: of BERT.
        mlp: whether the image tower has the MLP of regions.
    """
    return {
        **encoder_places(image, ("itc", "image"), has_mlp=mlp),
        **bert_places(f"{text}bert.", ("bert",), depth=depth, num_heads=num_heads),
        **dict(dense_places(f"{text}linear", ("itc", "text", "dense"))),
        **pooling_places(f"{text}gpool.", ("itc", "text", "pooling")),
    }


def read_vse_infinity(
    tensors: Tensors, *, num_heads: int | None = None, **others: Any
) -> Converted:
    """Reads the towers of a VSE-infinity over regions.

    Args:
        tensors: name -> array, those of the image tower with "0." in front, of the text's "1.".
        num_heads: H of BERT; None: width / 64.
        others: hints that are of no use here, all None.

    Raises:
        ValueError: it is another model or variant; names what is missing, unexpected or mis-shaped.
    """
    refuse_hints(NAME, others)
    image, text = (_prefix(tensors, number) for number in ("0", "1"))
    _refuse_variants(tensors, image, text)
    model = _find_sizes(tensors, image, text, num_heads)
    sizes = dict(depth=model["depth"], num_heads=model["num_heads"], mlp=bool(model["region_mlp"]))
    places = model_places(image, text, **sizes)
    rests = {name: re.sub(r"^[01]\.(module\.)?", "", name) for name in tensors}
    aside = {
        n: np.array(tensors[n])
        for n in tensors
        if n not in places and re.fullmatch(ASIDE, rests[n])
    }
    missing, unexpected = set(places) - set(tensors), set(tensors) - set(places) - set(aside)
    if missing or unexpected:
        raise ValueError(
            f"not a VSE-infinity of these sizes: missing {named(sorted(missing))}; unexpected"
            f" {named(sorted(unexpected))}"
        )
    if wrong := wrong_shapes(tensors, places, abstract_params(model_maker(model))):
        raise ValueError(
            f"not a VSE-infinity of width {model['width']}, vectors of {model['embed_width']}:"
            f" {'; '.join(wrong[:5])}"
        )
    config = whole_config("vse_infinity:region", model)
    ready = {name: model[name] for name in ("num_regions", "region_width")}
    extra = {"image": image, "text": text, **sizes}
    return Converted(fill_places(tensors, places), config, ready, aside, extra)


def write_vse_infinity(
    params: Any, meta: Mapping[str, Any], aside: Tensors
) -> dict[str, np.ndarray]:
    """Writes a converted VSE-infinity back in the names it came in.

    Args:
        params: our parameters as a pure nested dict.
        meta: of their checkpoint.
        aside: tensors to add, by official name.
    """
    return {**empty_places(params, model_places(**extra_of(NAME, meta))), **aside}


def _prefix(tensors: Tensors, number: str) -> str:
    """What the names of a tower begin with."""
    own = [name for name in tensors if name.startswith(f"{number}.")]
    if not own or any(not re.match(r"[01]\.", name) for name in tensors):
        raise ValueError(
            "this is no VSE-infinity: its model_best.pth holds a list of two state dicts under"
            f" `model`, image and text; found {named(sorted(tensors)[:5])}"
        )
    wrapped = f"{number}.module."
    return wrapped if all(name.startswith(wrapped) for name in own) else f"{number}."


def _refuse_variants(tensors: Tensors, image: str, text: str) -> None:
    """Refuses the variants whose other networks are not built here."""
    network = [name for name in tensors if name.startswith(f"{image}backbone.")]
    if network:
        raise ValueError(
            f"this is the grid variant: {len(network):,} tensors {image}backbone.* are those of a"
            " convolutional network, which is not built here; use a checkpoint of the region"
            " variant, or train configs/vse_infinity.py:grid on features of"
            " python -m vlmo_jax.grid_features"
        )
    if any(name.startswith((f"{text}rnn.", f"{text}embed.")) for name in tensors):
        raise ValueError(
            "its text tower is a GRU over words (branch `bigru`), which is not built here; use a"
            " checkpoint with BERT"
        )


def _find_sizes(tensors: Tensors, image: str, text: str, num_heads: int | None) -> dict[str, Any]:
    """`config.model` by the shapes of tensors."""
    told = {
        "fc": f"{image}fc.weight",
        "words": f"{text}bert.embeddings.word_embeddings.weight",
        "positions": f"{text}bert.embeddings.position_embeddings.weight",
        "up": f"{text}bert.encoder.layer.0.intermediate.dense.weight",
    }
    if missing := [name for name in told.values() if name not in tensors]:
        raise ValueError(
            f"this is no VSE-infinity over regions with BERT: missing {named(missing)}"
        )
    hidden = f"{image}mlp.layers.0.weight"
    check_ranks("VSE-infinity", tensors, dict.fromkeys((*told.values(), hidden), 2))
    layer = re.compile(rf"{re.escape(text)}bert\.encoder\.layer\.(\d+)\.")
    last = max(int(found[1]) for name in tensors if (found := layer.match(name)))
    check_depth(tensors, last)
    embed_width, region_width = tensors[told["fc"]].shape
    vocab_size, width = tensors[told["words"]].shape
    return {
        "kind": NAME,
        **RUNTIME,
        "embed_width": embed_width,
        "region_width": region_width,
        "region_mlp": tensors[hidden].shape[0] if hidden in tensors else 0,
        "width": width,
        "depth": last + 1,
        "num_heads": num_heads or max(1, width // HEAD_WIDTH),
        "mlp_dim": tensors[told["up"]].shape[0],
        "vocab_size": vocab_size,
        "text_positions": tensors[told["positions"]].shape[0],
        "text_length": min(RUNTIME["text_length"], tensors[told["positions"]].shape[0]),
    }
