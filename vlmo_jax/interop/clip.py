"""CLIP's checkpoints: OpenAI's, open_clip's and HuggingFace's, and the way back to their names."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.input.plain_images import CROPPED
from vlmo_jax.interop import clip_names as names
from vlmo_jax.interop.clip_names import HUGGINGFACE, OPENAI, Between, Row, name_rows, spelled
from vlmo_jax.interop.converted import Converted, Tensors, preprocessing, refuse_hints
from vlmo_jax.interop.places import (
    LINEAR,
    SAME,
    Layout,
    NamedPlace,
    ParamPath,
    Place,
    check_depth,
    check_ranks,
    empty_places,
    fill_places,
    named,
    norm_places,
    patch_layout,
)
from vlmo_jax.interop.recipe_configs import whole_config
from vlmo_jax.models.build import abstract_params, model_maker

# Of the pixels that OpenAI trained on.
STATISTICS = dict(
    mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]
)
RUNTIME = dict(dtype="auto", remat="none", scan_layers=True)
NumHeads = int | tuple[int, int] | None
HEAD_WIDTH = 64  # of every model that OpenAI published
# What the rest tells, or what is remade: kept aside.
ASIDE = (
    r"input_resolution|context_length|vocab_size|attn_mask|"
    r"(vision|text)_model\.embeddings\.position_ids"
)
PATCH, WORDS = "visual.conv1.weight", "token_embedding.weight"
IMAGE_POSITIONS, TEXT_POSITIONS = "visual.positional_embedding", "positional_embedding"
PROJECTION = "text_projection"
IMAGE_MLP = "visual.transformer.resblocks.0.mlp.c_fc.bias"
TEXT_MLP = "transformer.resblocks.0.mlp.c_fc.bias"


def clip_places(fields: Mapping[str, Any]) -> dict[str, Place]:
    """Every tensor between the names (see clip_names.py) and its place in ours.

    Args:
        fields: of `config.model`.
    """
    image, text = ("image_embedding",), ("text_embedding",)
    places = [
        ("visual.class_embedding", Place((*image, "class_token"), (), SAME)),
        (PATCH, Place((*image, "patch"), (), patch_layout(fields["patch_size"]))),
        (IMAGE_POSITIONS, Place((*image, "position"), (), SAME)),
        *norm_places("visual.ln_pre", ("image_input_norm",)),
        *norm_places("visual.ln_post", ("image_norm",)),
        ("visual.proj", Place(("itc", "image", "kernel"), (), SAME)),
        (WORDS, Place((*text, "word"), (), SAME)),
        (TEXT_POSITIONS, Place((*text, "position"), (), SAME)),
        *norm_places("ln_final", ("text_norm",)),
        (PROJECTION, Place(("itc", "text", "kernel"), (), SAME)),
        ("logit_scale", Place(("itc", "logit_scale"), (), SAME)),
    ]
    towers = (
        ("image_encoder", fields["depth"], fields["num_heads"]),
        ("text_encoder", fields["text_depth"], fields["text_num_heads"]),
    )
    for prefix, (module, depth, num_heads) in zip(names.TOWERS, towers, strict=True):
        for number in range(depth):
            places += _block_places(f"{prefix}{number}.", (module, "blocks"), number, num_heads)
    return dict(places)


def _block_places(
    prefix: str, root: ParamPath, number: int, num_heads: int
) -> Iterator[NamedPlace]:
    at, attention, feed = (number,), (*root, "attention"), (*root, "feed_forward")
    heads = Layout(lambda b: b.reshape(num_heads, -1), lambda b: b.reshape(-1))
    qkv = Layout(
        lambda w: w.T.reshape(w.shape[1], 3, num_heads, -1), lambda k: k.reshape(k.shape[0], -1).T
    )
    out = Layout(
        lambda w: w.T.reshape(num_heads, -1, w.shape[0]), lambda k: k.reshape(-1, k.shape[-1]).T
    )
    yield from norm_places(prefix + "ln_1", (*root, "norm"), at)
    yield from norm_places(prefix + "ln_2", (*feed, "norm"), at)
    yield prefix + "attn.in_proj_weight", Place((*attention, "qkv"), at, qkv)
    for part in names.PARTS:
        yield f"{prefix}attn.{part}_bias", Place((*attention, f"{part}_bias"), at, heads)
    yield prefix + "attn.out_proj.weight", Place((*attention, "out"), at, out)
    yield prefix + "attn.out_proj.bias", Place((*attention, "out_bias"), at, SAME)
    for name, module in (("mlp.c_fc", "up"), ("mlp.c_proj", "down")):
        yield f"{prefix}{name}.weight", Place((*feed, module, "kernel"), at, LINEAR)
        yield f"{prefix}{name}.bias", Place((*feed, module, "bias"), at, SAME)


def find_sizes(tensors: Tensors, spelling: str, *, num_heads: NumHeads = None) -> dict[str, Any]:
    """Fields of `config.model` that the shapes tell.

    Args:
        tensors: by their names.
        spelling: OPENAI or HUGGINGFACE.
        num_heads: H of the image tower and of the text tower, or one number for both; None: width
            / 64 of each.

    Raises:
        ValueError: a tensor that tells a size is missing or has another number of axes.
    """
    if any(name.startswith("visual.layer1.") for name in tensors):
        raise ValueError("this CLIP looks at images with a ResNet; only those with a ViT are known")
    ranks = {PATCH: 4, IMAGE_POSITIONS: 2, WORDS: 2, TEXT_POSITIONS: 2, PROJECTION: 2}
    ranks |= {IMAGE_MLP: 1, TEXT_MLP: 1}
    spelled_as = {row.between[0]: row.theirs[0] for row in name_rows((1, 1), spelling)}
    theirs = {spelled_as[name]: rank for name, rank in ranks.items()}
    if missing := [name for name in theirs if name not in tensors]:
        raise ValueError(f"this is no CLIP: missing {missing}")
    check_ranks("CLIP", tensors, theirs)
    shapes = {name: tuple(tensors[spelled_as[name]].shape) for name in ranks}
    width, _, patch_size, _ = shapes[PATCH]
    vocab_size, text_width = shapes[WORDS]
    depth, text_depth = find_depths(tensors, spelling)
    if num_heads is None:
        num_heads = max(1, width // HEAD_WIDTH), max(1, text_width // HEAD_WIDTH)
    heads, text_heads = (num_heads, num_heads) if isinstance(num_heads, int) else num_heads
    grid = math.isqrt(max(shapes[IMAGE_POSITIONS][0] - 1, 0))
    if not grid or grid**2 + 1 != shapes[IMAGE_POSITIONS][0]:
        raise ValueError(
            f"{spelled_as[IMAGE_POSITIONS]}: {shapes[IMAGE_POSITIONS][0]} tokens are not those of a"
            " square grid of patches, w^2 + 1"
        )
    sizes = dict(
        image_size=grid * patch_size,
        patch_size=patch_size,
        width=width,
        depth=depth,
        num_heads=heads,
        mlp_dim=shapes[IMAGE_MLP][0],
        vocab_size=vocab_size,
        text_length=shapes[TEXT_POSITIONS][0],
        text_width=text_width,
        text_depth=text_depth,
        text_num_heads=text_heads,
        text_mlp_dim=shapes[TEXT_MLP][0],
        embed_dim=shapes[PROJECTION][0 if spelling == HUGGINGFACE else 1],
    )
    for of_width, number in ((width, heads), (text_width, text_heads)):
        if of_width % number:
            raise ValueError(
                f"{number} heads do not divide a tower of width {of_width}; give --num_heads=N,"
                " those of both towers"
            )
    return sizes


def find_depths(tensors: Iterable[str], spelling: str) -> tuple[int, int]:
    """Blocks of the image tower and of the text tower, by the names of tensors.

    Raises:
        ValueError: there would be more blocks than tensors, or none.
    """
    prefixes = names.TOWERS.values() if spelling == HUGGINGFACE else names.TOWERS
    depths, all_names = [], list(tensors)
    for prefix in prefixes:
        found = [re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in all_names]
        numbers = [int(match[1]) for match in found if match]
        if not numbers:
            raise ValueError(f"this is no CLIP: no tensor is called {prefix}0. and so on")
        check_depth(dict.fromkeys(all_names), max(numbers))
        depths.append(1 + max(numbers))
    return depths[0], depths[1]


def from_clip(
    tensors: Tensors, *, num_heads: NumHeads = None
) -> tuple[dict, dict[str, Any], dict[str, np.ndarray], str]:
    """Converts a CLIP in anyone's names to our parameters.

    Args:
        tensors: name -> array, read one by one.
        num_heads: see `find_sizes`.

    Returns:
        Parameters as a pure nested dict; fields of `config.model` that the shapes tell; what is
        kept aside by name; the spelling, OPENAI or HUGGINGFACE.

    Raises:
        ValueError: names the missing, unexpected and mis-shaped tensors.
    """
    spelling = HUGGINGFACE if names.is_huggingface(tensors) else OPENAI
    tensors = _WithoutPrefix(tensors) if spelling == OPENAI else tensors
    sizes = find_sizes(tensors, spelling, num_heads=num_heads)
    rows = name_rows((sizes["depth"], sizes["text_depth"]), spelling)
    wanted = {name for row in rows for name in row.theirs}
    aside = {
        name: np.array(tensors[name])
        for name in tensors
        if name not in wanted and re.fullmatch(ASIDE, name)
    }
    missing, unexpected = wanted - set(tensors), set(tensors) - wanted - set(aside)
    if missing or unexpected:
        raise ValueError(
            f"not a CLIP of these sizes: missing {named(sorted(missing))}; unexpected"
            f" {named(sorted(unexpected))}"
        )
    places = clip_places(sizes)
    if wrong := _wrong_shapes(tensors, rows, places, sizes):
        raise ValueError(
            f"not a CLIP of width {sizes['width']} and {sizes['text_width']}:"
            f" {'; '.join(wrong[:5])}"
        )
    _check_aside(aside, sizes)
    return fill_places(Between(tensors, rows), places), sizes, aside, spelling


class _WithoutPrefix(Mapping[str, np.ndarray]):
    """Tensors of open_clip without the prefix of its text tower, where they have it."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._names = {name.removeprefix(names.TEXT_PREFIX): name for name in tensors}
        if len(self._names) != len(tensors):
            raise ValueError(
                f"tensors with {names.TEXT_PREFIX} in front stand beside the same ones without it"
            )

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._names[name]]


def _wrong_shapes(
    tensors: Tensors, rows: list[Row], places: Mapping[str, Place], sizes: Mapping[str, Any]
) -> list[str]:
    """Names the tensors whose shapes do not fit, as they are spelled."""
    model = abstract_params(model_maker({"kind": "clip", **sizes}))
    shapes = {path: leaf.shape for path, leaf in flatten(model).items()}
    wrong = []
    for row in rows:
        here = [places[name] for name in row.between]
        empty = [np.broadcast_to(np.int8(0), shapes[place.path][len(place.at) :]) for place in here]
        ours = [place.layout.to_official(x) for place, x in zip(here, empty, strict=True)]
        for name, array in zip(row.theirs, row.write(ours), strict=True):
            if (found := tuple(tensors[name].shape)) != array.shape:
                wrong.append(f"{name}: shape {found}, not {array.shape}")
    return wrong


def _check_aside(aside: Tensors, sizes: Mapping[str, Any]) -> None:
    """Refuses numbers in a file that contradict its shapes."""
    told = {
        "input_resolution": sizes["image_size"],
        "context_length": sizes["text_length"],
        "vocab_size": sizes["vocab_size"],
        "text_model.embeddings.position_ids": np.arange(sizes["text_length"])[None],
    }
    for name, expected in told.items():
        if name in aside and not np.array_equal(np.squeeze(aside[name]), np.squeeze(expected)):
            raise ValueError(
                f"{name} is {np.squeeze(aside[name])}, which the shapes of the other tensors"
                f" contradict ({np.squeeze(expected)})"
            )


def to_clip(params: Any, fields: Mapping[str, Any], spelling: str) -> dict[str, np.ndarray]:
    """Converts our parameters to a state dict; the inverse of `from_clip`.

    Args:
        params: pure nested dict.
        fields: of `config.model`.
        spelling: OPENAI or HUGGINGFACE.

    Raises:
        ValueError: a parameter of ours has no name there, such as a head for questions.
    """
    rows = name_rows((fields["depth"], fields["text_depth"]), spelling)
    return spelled(empty_places(params, clip_places(fields)), rows)


def read_clip(
    tensors: Tensors,
    *,
    num_heads: NumHeads = None,
    activation: str | None = None,
    **others: int | str | None,
) -> Converted:
    """Reads a CLIP of OpenAI, open_clip or HuggingFace.

    Args:
        tensors: name -> array.
        num_heads: see `find_sizes`.
        activation: "quick_gelu" or "gelu", which no tensor tells; None: that of OpenAI, where the
            file is one of theirs.
        others: hints that are of no use here, all None.

    Raises:
        ValueError: it is no CLIP, or nothing tells its activation.
    """
    refuse_hints("clip", others)
    params, sizes, aside, spelling = from_clip(tensors, num_heads=num_heads)
    if activation is None and "input_resolution" in aside:  # which OpenAI's own files have
        activation = "quick_gelu"
    if activation is None:
        raise ValueError(
            "nothing tells the activation of this CLIP: give --activation=quick_gelu (OpenAI's"
            " weights and what goes on from them) or --activation=gelu (most others of open_clip),"
            " or keep its config.json or open_clip_config.json beside it"
        )
    model = {"kind": "clip", **RUNTIME, **sizes, "activation": activation}
    config = whole_config("clip:b32", model, **STATISTICS)
    ready = {**preprocessing(sizes["image_size"], STATISTICS), "resize": CROPPED}
    return Converted(params, config, ready, aside, {"spelling": spelling})


def write_clip(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes a CLIP in OpenAI's names, as open_clip reads them.

    Args:
        params: our parameters as a pure nested dict.
        meta: of their checkpoint.
        aside: tensors to add, of a checkpoint that came in these names.
    """
    return _write(params, meta, aside, OPENAI)


def write_clip_hf(params: Any, meta: Mapping[str, Any], aside: Tensors) -> dict[str, np.ndarray]:
    """Writes a CLIP in HuggingFace's names; arguments as of `write_clip`."""
    return _write(params, meta, aside, HUGGINGFACE)


def _write(params, meta, aside, spelling):
    model = meta["config"]["model"]
    if model.get("kind") != "clip":
        raise ValueError(f"config.model.kind={model.get('kind')!r} is no CLIP")
    came_as = meta.get("official", {}).get("extra", {}).get("spelling")
    return {**to_clip(params, model, spelling), **(aside if came_as == spelling else {})}
