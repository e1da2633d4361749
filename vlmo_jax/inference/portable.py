"""Both encoders in one file that JAX runs without this package.

It is an .npz: `encode_image` and `encode_text` are programs of jax.export for any number of rows on
CPU, CUDA and TPU, `params/...` the arrays that both take first, `tokenizer` its file, and `about`
the rest in JSON.
"""

import importlib.util
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import export

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.input.plain_images import CROPPED
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.tasks.retrieval import Encoders

PLATFORMS = ("cpu", "cuda", "tpu")
# Of whole images, and of their middle.
_RESIZED = ("resized to squares", "the middle square of images whose shorter side is resized")


class ExportExistsError(UserError, FileExistsError):
    """There is something where the file should go."""


class MissingPackageError(UserError, ImportError):
    """jax.export writes with a package that JAX does not bring."""


def export_encoders(
    encoders: Encoders,
    params: Any,
    path: str | os.PathLike,
    *,
    image_size: int,
    text_length: int,
    tokenizer: Tokenizer | None,
    facts: Mapping[str, Any],
) -> pathlib.Path:
    """Writes the file, whole or not at all.

    Args:
        encoders: of the model.
        params: its parameters.
        path: of the file; .npz is added where it is missing.
        image_size: S.
        text_length: T.
        tokenizer: of the texts, whose file goes with them where it is still there.
        facts: JSON values to keep beside, `Model.preprocessing` among them.

    Returns:
        The path.

    Raises:
        ExportExistsError: there is something at `path`.
        MissingPackageError: flatbuffers is not installed.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise MissingPackageError(
            "jax.export writes and reads its programs with the package flatbuffers, which is not"
            " installed: pip install flatbuffers, here and where the file is used"
        )
    path = user_path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    if path.exists():
        raise ExportExistsError(f"{path} exists; choose another name or remove it")
    leaves, tree = jax.tree.flatten(params)
    is_middle = facts["preprocessing"].get("resize") == CROPPED
    [rows] = export.symbolic_shape("rows")
    pixels = jax.ShapeDtypeStruct((rows, image_size, image_size, 3), np.uint8)
    ids = jax.ShapeDtypeStruct((rows, text_length), np.int32)
    mask = jax.ShapeDtypeStruct((rows, text_length), np.bool_)
    about = {
        **facts,
        "image": f"uint8 [rows, {image_size}, {image_size}, 3]: {_RESIZED[is_middle]}, with"
        " Pillow's bicubic filter",
        "token_ids, token_mask": f"int32 and bool [rows, {text_length}]",
        "image_size": image_size,
        "text_length": text_length,
    }
    if tokenizer is not None:
        about["tokens"] = {
            "pad": tokenizer.pad_id, "begin": tokenizer.begin_id, "end": tokenizer.end_id,
        }  # fmt: skip
        about["tokenizer"] = tokenizer.path.name

    def encode_image(leaves, image):
        return encoders.encode_image(jax.tree.unflatten(tree, leaves), {"image": image})

    def encode_text(leaves, token_ids, token_mask):
        batch = {"token_ids": token_ids, "token_mask": token_mask}
        return encoders.encode_text(jax.tree.unflatten(tree, leaves), batch)

    arrays = {
        "about": np.array(json.dumps(about, indent=1)),
        "encode_image": _program(encode_image, leaves, pixels),
        "encode_text": _program(encode_text, leaves, ids, mask),
    }
    if tokenizer is not None:
        arrays["tokenizer"] = np.frombuffer(tokenizer.contents, np.uint8)
    arrays |= {f"params/{number:05d}": np.asarray(leaf) for number, leaf in enumerate(leaves)}
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _program(function: Any, leaves: list[jax.Array], *arguments: jax.ShapeDtypeStruct) -> Any:
    """A program as bytes in an array: uint8."""
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(shapes, *arguments)
    return np.frombuffer(exported.serialize(), np.uint8)
