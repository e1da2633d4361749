"""Names and layouts of BEiT's fine-tuned classifiers, both ways: those of the official code (unilm)
and of HuggingFace, and what is found beside them.
"""

import functools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets.class_lists import CLASSES, classes_facts, classes_text
from vlmo_jax.input.plain_images import CROPPED
from vlmo_jax.interop.beit import BeitSizes, beit_places, from_beit, index_buffers
from vlmo_jax.interop.converted import (
    CENTRED,
    RUNTIME,
    Converted,
    Tensors,
    preprocessing,
    refuse_hints,
)
from vlmo_jax.interop.huggingface_beit import from_huggingface, is_huggingface, to_huggingface
from vlmo_jax.interop.made_tensors import MadeTensors
from vlmo_jax.interop.places import (
    Place,
    check_ranks,
    dense_places,
    empty_places,
    fill_places,
    norm_places,
)
from vlmo_jax.interop.recipe_configs import whole_config

HEAD, NORM = "head.weight", "fc_norm.weight"
HEAD_PLACES: dict[str, Place] = dict(
    [*norm_places("fc_norm", ("pool_norm",)), *dense_places("head", ("head",))]
)
CROP_SHARE = 0.875  # of a side, by which the official code looks at images below 384 px
WHOLE_FROM = 384


class NotAClassifierError(UserError, ValueError):
    """Tensors that are no classifier with a mean of patches."""


def from_beit_classifier(
    tensors: Mapping[str, np.ndarray],
    *,
    num_heads: int | None = None,
    num_upper: int | None = None,
) -> tuple[dict, BeitSizes, dict[str, np.ndarray]]:
    """Converts a fine-tuned BEiT, in official or in HuggingFace's names, to our parameters.

    Args:
        tensors: mapping name -> numpy array.
        num_heads, num_upper: see `interop.beit.find_sizes`.

    Returns:
        Parameters of an ImageClassifier as a pure nested dict of numpy arrays.
        BeitSizes.
        A dict official name -> index buffer.

    Raises:
        ValueError: it is no classifier, or names the missing, unexpected and mis-shaped tensors.
    """
    tensors = from_huggingface(tensors) if is_huggingface(tensors) else tensors
    if missing := [name for name in HEAD_PLACES if name not in tensors]:
        raise NotAClassifierError(
            f"this is no classifier that reads the mean of patches: missing {', '.join(missing)};"
            " for a BEiT without classes use --from=beit"
        )
    check_ranks("classifier", tensors, {HEAD: 2, NORM: 1, "fc_norm.bias": 1, "head.bias": 1})
    head = {name: np.asarray(tensors[name]) for name in HEAD_PLACES}
    body = {n: functools.partial(tensors.__getitem__, n) for n in tensors if n not in HEAD_PLACES}
    params, sizes, aside = from_beit(MadeTensors(body), num_heads=num_heads, num_upper=num_upper)
    classes, width = head[HEAD].shape
    wrong = {
        name: head[name].shape
        for name, size in {
            NORM: sizes.width,
            "fc_norm.bias": sizes.width,
            "head.bias": classes,
        }.items()
        if len(head[name]) != size
    }
    if width != sizes.width or wrong:
        raise NotAClassifierError(
            f"a head {head[HEAD].shape} with {wrong or 'its norm'} does not fit a BEiT of width"
            f" {sizes.width}"
        )
    extra = [name for name in ("mask_token", "norm.weight") if name in beit_places(sizes)]
    if extra or sizes.vocab_size is not None:
        raise NotAClassifierError(
            f"unexpected {', '.join(extra) or 'lm_head.weight'} in a classifier that reads the mean"
            " of patches"
        )
    return {**params, **fill_places(head, HEAD_PLACES)}, sizes, aside


def to_beit_classifier(
    params: Any,
    sizes: BeitSizes,
    aside: Mapping[str, np.ndarray] | None = None,
    *,
    huggingface: bool = False,
) -> dict[str, np.ndarray]:
    """Converts our parameters to a state dict of numpy arrays; the inverse of
    `from_beit_classifier`.

    Args:
        params: pure nested dict.
        sizes: BeitSizes.
        aside: mapping official name -> array of further tensors, such as `index_buffers`.
        huggingface: use HuggingFace's names.
    """
    places = {**beit_places(sizes), **HEAD_PLACES}
    tensors = {**empty_places(params, places), **(aside or {})}
    return to_huggingface(tensors) if huggingface else tensors


def classifier_sizes(model: Mapping[str, Any]) -> BeitSizes:
    """The sizes of an ImageClassifier by the fields of its `config.model`."""
    own = {name: model[name] for name in BeitSizes._fields if name in model}
    own |= {
        "shared_table": model.get("shared_table", False),
        "layer_scale": bool(model["layer_scale"]),
    }
    return BeitSizes(**own, vocab_size=None, mask_token=False, final_norm=False)


def read_beit_classifier(
    tensors: Tensors,
    *,
    num_heads: int | None = None,
    num_upper: int | None = None,
    classes: Sequence[str] | None = None,
    **others: Any,
) -> Converted:
    """Reads a fine-tuned BEiT.

    Args:
        tensors: name -> array.
        num_heads, num_upper: see `from_beit_classifier`.
        classes: names by id, of `hints_beside`.
        others: hints that are of no use here, all None.
    """
    refuse_hints("beit_classifier", others)
    params, sizes, aside = from_beit_classifier(tensors, num_heads=num_heads, num_upper=num_upper)
    fields = sizes.model_fields()
    del fields["vocab_size"]
    count = len(params["head"]["bias"])
    model = {"kind": "image_classifier", **RUNTIME, **fields, "num_classes": count}
    share = 1.0 if sizes.image_size >= WHOLE_FROM else CROP_SHARE
    config = whole_config(
        f"finetune_classify:base,{sizes.image_size}", model, **CENTRED, crop_share=share
    )
    ready = {**preprocessing(sizes.image_size, CENTRED), "resize": CROPPED, "crop_share": share}
    files = {}
    if classes and len(classes) == count:
        files[CLASSES] = classes_text(classes).encode()
        ready["classes"] = classes_facts(classes)
    extra = {"huggingface": is_huggingface(tensors)}
    return Converted(params, config, ready, aside, extra, files)


def write_beit_classifier(
    params: Any, meta: Mapping[str, Any], aside: Tensors, *, huggingface: bool = False
) -> dict[str, np.ndarray]:
    """Writes a classifier, trained here or converted, in official names; arguments as of
    `formats.write_vlmo`.

    Args:
        params: our parameters.
        meta: of their checkpoint.
        aside: tensors to add, by official name; index buffers where there are none.
        huggingface: write HuggingFace's names in their place.
    """
    model = meta["config"]["model"]
    if model.get("kind") != "image_classifier":
        raise NotAClassifierError(f"config.model.kind={model.get('kind')!r} is no image_classifier")
    sizes = classifier_sizes(model)
    if not aside and not huggingface:  # which the official code asks for
        aside = index_buffers(sizes)
    return to_beit_classifier(params, sizes, aside, huggingface=huggingface)


def write_beit_classifier_hf(
    params: Any, meta: Mapping[str, Any], aside: Tensors
) -> dict[str, np.ndarray]:
    """As `write_beit_classifier`, in HuggingFace's names."""
    return write_beit_classifier(params, meta, aside, huggingface=True)


def hints_beside(source: pathlib.Path) -> dict[str, Any]:
    """The names of the classes, where a config.json of transformers lies beside the tensors."""
    folder = source if source.is_dir() else source.parent
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        classes = [str(names[str(number)]) for number in range(len(names))]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in classes)  # what transformers puts
    usable = len(set(classes)) == len(classes) and all(classes) and not unnamed
    return {"classes": classes} if usable else {}
