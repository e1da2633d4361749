"""Fixtures of the official model: arrays and sizes read from files, and our model built to fit
them.
"""

import functools
import json
import math
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.input.schema import UNUSED
from vlmo_jax.interop.vlmo import from_official, official_parts, official_places, to_official
from vlmo_jax.layers.relative_position import image_index, joint_index, text_index
from vlmo_jax.models.build import abstract_model, model_maker

OUTPUT_TOLERANCE = 2e-5
GRADIENT_TOLERANCE, GRADIENT_FLOOR = 1e-4, 1e-6

# Official input arrays and their names in our batches.
INPUTS = {"text_ids": "token_ids", "text_masks": "token_mask", "text_ids_mlm": "mlm_token_ids"}
IMAGES = ("image", "image_0", "image_1")
IGNORED_LABEL = -100

Arrays = Mapping[str, np.ndarray]
Info = Mapping[str, Any]


def load_fixture(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads NAME.npz and NAME.json beside it, or NAME.json of a fixture without arrays.

    Args:
        path: of either file.

    Returns:
        dict name -> array, empty where there are none, and the JSON's values.

    Raises:
        FileNotFoundError: one that is named, or the JSON, is not there.
    """
    path = pathlib.Path(path)
    values, arrays = path.with_suffix(".json"), path.with_suffix(".npz")
    for file in (path, values):
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file; a fixture is NAME.npz with NAME.json beside it, or"
                " NAME.json alone where it has no arrays"
            )
    info = json.loads(values.read_text(encoding="utf-8"))
    if not arrays.is_file():
        return {}, info
    with np.load(arrays) as loaded:
        return dict(loaded), info


class Reference:
    """A VLMo fixture: arrays, sizes, our model, and the map between its parameters and the official
    ones.

    Experts and heads follow from the names of the tensors, the grid of patches from the position
    table.

    Args:
        arrays: name -> array, of `load_fixture`.
        info: the JSON's values.
        prefix: group of the official parameters.

    Attributes:
        position: "relative" or "absolute".
        text_positions: longest text, in tokens, that the position tables are made for.
        grid: patches a side that they are made for.
        places: of `interop.vlmo.official_places`.
        fields: `config.model` of our model, without the image size.
        graphdef: of our model.
        abstract: its parameters, an nnx.State of shapes and logical axes.

    Raises:
        ValueError: there are no parameters under the prefix.
    """

    def __init__(self, arrays: Arrays, info: Info, prefix: str = "param") -> None:
        self.arrays, self.info = arrays, info
        sizes, config = info["model"], info["config"]
        tensors = self.group(prefix)
        if not tensors:
            raise ValueError(f"the fixture holds no parameters {prefix}/...")
        parts = official_parts(tensors)
        self.position = "absolute" if sizes["use_abs_pos_emb"] else "relative"
        num_upper = sizes["depth"] - sizes["vlffn_start_layer_index"]
        layer_scale = sizes["layer_scale_init_values"]
        self.text_positions = config.get("max_text_len_of_initckpt", config["max_text_len"])
        self.grid = self.table_grid(tensors, config["image_size"] // sizes["patch_size"])
        self.places = official_places(
            depth=sizes["depth"],
            num_upper=num_upper,
            num_heads=sizes["num_heads"],
            patch_size=sizes["patch_size"],
            position=self.position,
            layer_scale=bool(layer_scale),
            **parts,
        )
        self.fields = dict(
            kind="vlmo",
            patch_size=sizes["patch_size"],
            text_length=config["max_text_len"],
            text_positions=self.text_positions,
            vocab_size=config["vocab_size"],
            width=sizes["embed_dim"],
            depth=sizes["depth"],
            num_heads=sizes["num_heads"],
            mlp_dim=int(sizes["embed_dim"] * sizes["mlp_ratio"]),
            num_upper=num_upper,
            position=self.position,
            layer_scale=layer_scale,
            num_answers=config.get("vqav2_label_size") or 1,
            **parts,
        )
        self.graphdef, self.abstract = self.build(self.grid)

    def build(self, grid: int) -> tuple[nnx.GraphDef, nnx.State]:
        """Graphdef and abstract parameters of our model for images of `grid` x `grid` patches."""
        image_size = grid * self.fields["patch_size"]
        return _build(tuple({**self.fields, "image_size": image_size}.items()))

    def table_grid(self, tensors: Arrays, default: int) -> int:
        """Patches a side that the position table among `tensors` is made for."""
        if "transformer.pos_embed" in tensors:
            return math.isqrt(tensors["transformer.pos_embed"].shape[1] - 1)
        if "relative_position_bias_table" in tensors:
            return relative_grid(len(tensors["relative_position_bias_table"]), self.text_positions)
        return default

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays named prefix/..., without the prefix."""
        return group(self.arrays, prefix)

    def params(self, prefix: str) -> dict:
        """The weights stored under a prefix in our layout, their shapes checked against our model.

        Raises:
            ValueError: they do not fit, or the way back to their names is not exact.
        """
        tensors = self.group(prefix)
        params, unread = from_official(tensors, self.places, self.position)
        if not same_tensors(to_official(params, self.places, unread), tensors):
            raise ValueError(f"{prefix}: the way back to the official names is not exact")
        return self.checked(params, self.abstract, prefix)

    @staticmethod
    def checked(params: dict, abstract: nnx.State, what: str) -> dict:
        """Parameters as jax arrays.

        Args:
            params: pure nested dict of numpy arrays.
            abstract: the shapes they should have, as `build` gives them.
            what: they are, for the message.

        Raises:
            ValueError: names those of another shape.
        """
        found, expected = _shapes(params), _shapes(nnx.to_pure_dict(abstract))
        other = [
            f"{name}: {found.get(name)} instead of {expected.get(name)}"
            for name in sorted(set(found) | set(expected))
            if found.get(name) != expected.get(name)
        ]
        if other:
            raise ValueError(
                f"{what}: shapes do not fit a model of the sizes in the JSON: {'; '.join(other)}"
            )
        return jax.tree.map(jnp.asarray, params)


def _shapes(params: dict) -> dict[str, tuple[int, ...]]:
    return {"/".join(path): np.shape(leaf) for path, leaf in flatten(params).items()}


@functools.lru_cache
def _build(fields: tuple[tuple[str, Any], ...]) -> tuple[nnx.GraphDef, nnx.State]:
    return abstract_model(model_maker(dict(fields)))


def group(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Arrays named prefix/..., without the prefix."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def same_tensors(ours: Arrays, theirs: Arrays) -> bool:
    """Whether two sets of tensors have the same names and, name by name, the same values."""
    return set(ours) == set(theirs) and all(
        np.array_equal(ours[name], theirs[name]) for name in theirs
    )


def relative_grid(rows: int, text_positions: int) -> int:
    """Patches a side of an official relative position table of `rows` rows made for
    `text_positions` tokens.

    Raises:
        ValueError: no grid gives so many rows.
    """
    offsets = rows - 5 - 2 * text_positions
    side = math.isqrt(max(offsets, 0))
    if side * side != offsets or side % 2 == 0:
        raise ValueError(
            f"a relative position table of {rows} rows does not fit texts of {text_positions}"
            " tokens and any image size"
        )
    return (side + 1) // 2


def official_batch(arrays: Arrays) -> dict[str, np.ndarray]:
    """Our batch from official inputs: images to NHWC, masked-language labels to places and token
    ids.

    Args:
        arrays: name -> array, of INPUTS, IMAGES, text_labels and text_labels_mlm, as far as there
            are any.
    """
    batch = {INPUTS[name]: arrays[name] for name in INPUTS if name in arrays}
    batch |= {name: arrays[name].transpose(0, 2, 3, 1) for name in IMAGES if name in arrays}
    if "token_mask" in batch:
        batch["token_mask"] = batch["token_mask"].astype(bool)
    if "text_labels_mlm" in arrays:
        labels = arrays["text_labels_mlm"]
        masked = labels != IGNORED_LABEL
        batch["mlm_positions"] = np.where(masked, np.arange(labels.shape[1]), 0).astype(np.int32)
        batch["mlm_labels"] = np.where(masked, labels, UNUSED).astype(np.int32)
    rows = np.arange(len(next(iter(batch.values()))), dtype=np.uint32)
    return {**batch, "image_id": rows, "text_id": rows}


def compare_inputs(
    reference: Reference, report: Any, prefix: str = "in", extra: Collection[str] = ()
) -> None:
    """Compares what the inputs say twice, and refuses inputs that nothing here reads.

    The official batch carries labels of the unmasked text too, though its code masks none of it,
    and masked texts beside the whole ones.

    Args:
        reference: the fixture.
        report: of interop.check.
        prefix: group of the inputs.
        extra: names that the caller reads beside INPUTS and IMAGES.

    Raises:
        ValueError: names inputs that are not known.
    """
    arrays = reference.group(prefix)
    known = {*INPUTS, *IMAGES, "text_labels", "text_labels_mlm", *extra}
    unknown = sorted(set(arrays) - known)
    if unknown:
        raise ValueError(
            f"{prefix}/ holds inputs that are not known: {unknown}; known:"
            f" {', '.join(sorted(known))}"
        )
    if "text_labels" in arrays:
        report.compare(
            f"{prefix}/text_labels",
            np.full_like(arrays["text_labels"], IGNORED_LABEL),
            arrays["text_labels"],
            0.0,
        )
    if {"text_ids", "text_ids_mlm", "text_labels_mlm"} <= set(arrays):
        labels = arrays["text_labels_mlm"]
        whole = np.where(labels != IGNORED_LABEL, labels, arrays["text_ids_mlm"])
        report.compare(f"{prefix}/text_ids", whole, arrays["text_ids"], 0.0)


def compare_buffers(reference: Reference, report: Any, grid: int | None = None) -> None:
    """Compares the index buffers of official models.

    Args:
        reference: the fixture.
        report: of interop.check.
        grid: patches a side of the images, None for the reference's.

    Raises:
        ValueError: names buffers that are not known.
    """
    grid = grid or reference.grid
    length, positions = reference.info["config"]["max_text_len"], reference.text_positions
    known = {
        "text_embeddings.position_ids": lambda: np.arange(length)[None],
        "text_embeddings.token_type_ids": lambda: np.zeros((1, length)),
        "relative_position_index": lambda: image_index(grid),
        "text_relative_position_index": lambda: text_index(grid, length, positions),
        "text_imag_relative_position_index": lambda: joint_index(grid, length, positions),
    }
    for name, value in reference.group("buffer").items():
        if name not in known:
            raise ValueError(f"buffer/{name} is not known; known: {', '.join(known)}")
        report.compare(f"buffer/{name}", known[name](), value, 0.0)


def compare_gradients(reference: Reference, report: Any, grads: Any) -> None:
    """Compares gradients: those that are stored, and zero for those that the JSON says the official
    model lacks.

    Args:
        reference: the fixture.
        report: of interop.check.
        grads: tree like our parameters.

    Raises:
        ValueError: the fixture holds gradients of unknown parameters.
    """
    theirs, ours = reference.group("grad"), to_official(grads, reference.places)
    without = set(reference.info.get("grad_none", ()))
    unknown = sorted(set(theirs) - set(ours) - without)
    if unknown:
        raise ValueError(f"the fixture holds gradients of parameters that are not known: {unknown}")
    for name in sorted(set(theirs) & set(ours)):
        largest = float(np.abs(theirs[name]).max(initial=0.0))
        tolerance = max(GRADIENT_TOLERANCE * largest, GRADIENT_FLOOR)
        report.compare(f"grad/{name}", ours[name], theirs[name], tolerance)
    for name in sorted(without & set(ours) - set(theirs)):
        report.compare(f"no grad/{name}", ours[name], np.zeros(ours[name].shape), 0.0)
