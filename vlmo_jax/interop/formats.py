"""The checkpoint formats that conversion knows: from their tensors to parameters with a config, and
back.

Each format is a pair of functions. `read` takes the tensors of a file and gives a Converted;
`write` takes parameters and the meta of a checkpoint of ours and gives the tensors of a file.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from vlmo_jax.interop import beit, dalle, vlmo
from vlmo_jax.interop.places import wrong_shapes
from vlmo_jax.interop.vlmo_sizes import LAYER_SCALE, find_sizes
from vlmo_jax.models.vlmo import VLMo

# Fields of `config.model` that no checkpoint of others tells.
RUNTIME = dict(drop_path_rate=0.0, init_std=0.02, dtype="auto", remat="none", scan_layers=True)
HALF_TYPES = ("float16", "bfloat16")
REMAP_BYTES = 2**27
CENTRED = dict(mean=[0.5] * 3, std=[0.5] * 3)  # of the official VLMo and BEiT


class Converted(NamedTuple):
    """A checkpoint of others in our terms.

    Attributes:
        params: pure nested dict of float32 arrays.
        config: plain values: `kind`, `model`, `data`.
        preprocessing: image size, resize, mean and std.
        aside: name -> array of tensors that our model has no place for.
        extra: plain values that `write` needs beside the config.
    """

    params: dict
    config: dict
    preprocessing: dict
    aside: dict
    extra: dict


class Float32Tensors(Mapping):
    """The tensors of a file as they are asked for: floats as finite float32, other types as they
    are.

    A mapped file counts as memory of this process as far as it was read; it is mapped anew now and
    then.

    Args:
        read: function of no arguments that gives name -> array.
        mapped: whether the arrays are views of a mapped file.
        bar: has `total` and `update()`, called once a tensor.

    Attributes:
        types: name -> name of the type, of half-precision tensors.

    Raises:
        ValueError: from indexing, for a tensor that is not finite or of a type that float32 cannot
            hold.
    """

    def __init__(self, read, *, mapped, bar):
        self._read, self._mapped, self._bar = read, mapped, bar
        self._tensors, self._seen, self._bytes = read(), set(), 0
        bar.total = len(self._tensors)
        self.types = {
            name: t.dtype.name for name, t in self._tensors.items() if t.dtype.name in HALF_TYPES
        }

    def __len__(self):
        return len(self._tensors)

    def __iter__(self):
        return iter(self._tensors)

    def __contains__(self, name):
        return name in self._tensors

    def __getitem__(self, name):
        if self._mapped and self._bytes > REMAP_BYTES:
            self._tensors, self._bytes = None, 0
            self._tensors = self._read()
        tensor = self._tensors[name]
        self._bytes += tensor.nbytes
        if name not in self._seen:
            self._seen.add(name)
            self._bar.update()
        if tensor.dtype.kind in "iub":
            return tensor
        if tensor.dtype.name not in ("float32", *HALF_TYPES):
            raise ValueError(
                f"{name}: {tensor.dtype}, where float32, float16 or bfloat16 is wanted; convert it"
                " to float32 first"
            )
        tensor = tensor.astype(np.float32, copy=False)
        if not np.isfinite(tensor).all():
            raise ValueError(
                f"{name}: {int((~np.isfinite(tensor)).sum())} of {tensor.size} values are not"
                " finite; training went astray there"
            )
        return tensor


def _preprocessing(image_size, **statistics):
    return {"image_size": image_size, "resize": "square bicubic", **statistics}


def _vlmo_places(model):
    names = ("depth", "num_upper", "num_heads", "patch_size", "position")
    parts = {name: tuple(model[name]) for name in ("experts", "heads") if name in model}
    return vlmo.official_places(
        **{name: model[name] for name in names}, layer_scale=bool(model["layer_scale"]), **parts
    )


def read_vlmo(tensors, **hints):
    """Reads an official VLMo of any stage or task; `hints` are those of `vlmo_sizes.find_sizes`."""
    sizes = find_sizes(tensors, **hints)
    model = {**RUNTIME, **sizes}
    places = _vlmo_places(model)
    with nnx.use_eager_sharding(False):
        fields = {**sizes, "layer_scale": sizes["layer_scale"] or None}
        abstract = jax.eval_shape(
            lambda: nnx.to_pure_dict(nnx.state(VLMo(**fields, rngs=nnx.Rngs(0))))
        )
    present = {name: place for name, place in places.items() if name in tensors}
    if wrong := wrong_shapes(tensors, present, abstract):
        raise ValueError(
            f"not a VLMo of width {sizes['width']}, depth {sizes['depth']}: {'; '.join(wrong[:5])}"
        )
    params, aside = vlmo.from_official(tensors, places, sizes["position"])
    kind = "pairs" if "vision_language" in sizes["experts"] else "texts"
    config = {"kind": kind, "model": model, "data": CENTRED}
    return Converted(params, config, _preprocessing(sizes["image_size"], **CENTRED), aside, {})


def write_vlmo(params, meta, aside):
    """Writes an official VLMo. What the official code owns without reading it is zero unless it was
    kept aside.
    """
    model = meta["config"]["model"]
    if "text_length" not in model:
        raise ValueError(
            f"config.kind={meta['config'].get('kind')!r} is no VLMo: its model has no text_length"
        )
    places = _vlmo_places(model)
    tensors = vlmo.to_official(params, places)
    width = model["width"]
    owned = (
        {"text_embeddings.position_embeddings.weight": (model["text_length"], width)}
        if model["position"] == "relative"
        else {}
    )
    owned |= {"pooler.dense.weight": (width, width), "pooler.dense.bias": (width,)}
    return {
        **{
            name: np.zeros(shape, np.float32) for name, shape in owned.items() if name not in places
        },
        **tensors,
        **aside,
    }


def read_beit(tensors, *, num_heads=None, num_upper=None, **others):
    """Reads a BEiT in official or in HuggingFace's names."""
    _none_given("beit", others)
    huggingface = beit.is_huggingface(tensors)
    params, sizes, aside = beit.from_beit(tensors, num_heads=num_heads, num_upper=num_upper)
    fields = {**sizes.model_fields(), "layer_scale": LAYER_SCALE if sizes.layer_scale else 0.0}
    config = {"kind": "images", "model": {**RUNTIME, **fields}, "data": CENTRED}
    extra = {"huggingface": huggingface, "sizes": sizes._asdict()}
    return Converted(params, config, _preprocessing(sizes.image_size, **CENTRED), aside, extra)


def write_beit(params, meta, aside):
    """Writes a converted BEiT back, in the names it came in."""
    extra = _extra("beit", meta)
    return beit.to_beit(
        params, beit.BeitSizes(**extra["sizes"]), aside, huggingface=extra["huggingface"]
    )


def read_dalle(tensors, *, image_size=None, **others):
    """Reads DALL-E's discrete VAE, encoder or both parts."""
    _none_given("dalle", others)
    sizes, params = dalle.from_dalle(tensors)
    plain = all(name.startswith("blocks.") for name in tensors)
    image_size = image_size or 112
    model = {
        **{name: value for name, value in sizes.items() if name != "decoder"},
        "image_size": image_size,
        "dtype": "auto",
    }
    preprocessing = _preprocessing(image_size, mean=[0.0] * 3, std=[1.0] * 3)
    return Converted(
        params,
        {"kind": "tokenizer", "model": model, "data": {}},
        preprocessing,
        {},
        {"sizes": sizes, "plain": plain},
    )


def write_dalle(params, meta, aside):
    """Writes a converted discrete VAE back, in the names it came in."""
    extra = _extra("dalle", meta)
    tensors = dalle.to_dalle(params, extra["sizes"])
    return {
        name.removeprefix("encoder.") if extra["plain"] else name: tensor
        for name, tensor in tensors.items()
    }


def _none_given(name, hints):
    given = [f"--{hint}" for hint, value in hints.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)} is of no use with --from={name}: the shapes tell it")


def _extra(name, meta):
    official = meta.get("official", {})
    if official.get("format") != name:
        raise ValueError(
            f"only a checkpoint that was converted with --from={name} goes back with --to={name};"
            " use --to=vlmo for VLMo"
        )
    return official["extra"]


class Format(NamedTuple):
    """How tensors are read and written."""

    read: Any
    write: Any


FORMATS = {
    "vlmo": Format(read_vlmo, write_vlmo),
    "beit": Format(read_beit, write_beit),
    "dalle": Format(read_dalle, write_dalle),
}
