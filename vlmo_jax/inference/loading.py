"""From a folder to a model that answers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.checkpoints.saved_params import SavedParams, find_checkpoint, load_params
from vlmo_jax.checkpoints.store import abstract_like
from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.inference.model import Model
from vlmo_jax.inference.parts import Loaded
from vlmo_jax.inference.vocabularies import (
    find_list_of_answers,
    find_list_of_classes,
    find_tokenizer,
)
from vlmo_jax.models.build import MODELS, abstract_model, model_maker
from vlmo_jax.parallel import sharding
from vlmo_jax.tasks.abilities import AnswersQuestions, ClassifiesImages, DualEncoder, SegmentsImages

# Rows of a batch on each device: what fills it, and leaves room for the large models.
_ROWS = {"cpu": 16}
_ROWS_OF_ACCELERATORS = 128


class NotACheckpointError(UserError, ValueError):
    """A file where the folder of a checkpoint is looked for."""


class WrongBatchSizeError(UserError, ValueError):
    """A batch that does not divide over the devices."""


def load(
    path: str | os.PathLike,
    *,
    tokenizer: str | os.PathLike | None = None,
    answers: str | os.PathLike | None = None,
    classes: str | os.PathLike | None = None,
    averaged: bool = False,
    batch_size: int | None = None,
    show_progress: bool = True,
) -> Model:
    """Loads a trained or converted model with all that it needs: config, preprocessing, tokenizer.

    Args:
        path: a work folder, its checkpoints, one numbered checkpoint in them, or the folder that
            `vlmo_jax.interop.convert` has made. It may have been moved.
        tokenizer: file of the tokenizer, where the checkpoint carries none: one of an earlier
            version, or a converted one.
        answers: file that lists the answers of a model fine-tuned on VQA, or its data set, where
            the checkpoint carries none.
        classes: file that lists the classes of a classifier, one a line, where the checkpoint
            carries none: a converted one.
        averaged: take the averaged parameters in place of those that were trained.
        batch_size: most rows of a batch over all local devices; None: as many as suit them. It
            changes how fast things are, and no value beyond rounding.
        show_progress: whether what takes more than some seconds shows a bar.

    Returns:
        The model, on all devices of this process.

    Raises:
        FileNotFoundError: there is no checkpoint.
        UnfitModelError: the model reads no texts beside images, and is no classifier of them.
        ValueError: an argument does not go with the checkpoint.
    """
    path = user_path(path)
    if path.is_file():
        raise NotACheckpointError(
            f"{path} is a file, and a checkpoint is a folder; make one of other people's weights"
            f" with: python -m vlmo_jax.interop.convert {path} OUT --from=vlmo"
        )
    directory, step = find_checkpoint(path)
    name, folder = directory / str(step), directory.parent
    meta = SavedParams(name, averaged=averaged).meta
    fields = meta["config"]["model"]
    _check_can_be_asked(folder, meta)
    mesh = sharding.make_mesh(devices=jax.local_devices())
    with jax.set_mesh(mesh):
        graphdef, abstract = abstract_model(model_maker(fields))
        shapes = abstract_like(nnx.to_pure_dict(abstract), sharding.param_shardings(abstract, mesh))
        params = load_params(name, shapes, averaged=averaged)[0]
    return Model(
        Loaded(
            name=name,
            meta=meta,
            config=_locked(meta["config"]),
            tokenizer=find_tokenizer(meta, folder, _text(tokenizer)),
            answers=find_list_of_answers(meta, folder, _text(answers)),
            graphdef=graphdef,
            mesh=mesh,
            classes=find_list_of_classes(meta, folder, _text(classes)),
        ),
        params,
        batch_size=_batch_size(batch_size, mesh),
        show_progress=show_progress,
    )


def _check_can_be_asked(folder: Path, meta: Mapping[str, Any]) -> None:
    kind = meta["config"]["model"].get("kind")
    module = MODELS[kind].module if kind in MODELS else object
    if issubclass(module, SegmentsImages):
        raise UnfitModelError(
            f"the model in {folder} (config.model.kind={kind!r}) segments images, which is not"
            " asked here; score it with `python -m vlmo_jax.main --config.mode=eval`, or write it"
            " for others with `python -m vlmo_jax.interop.convert --to=beit_segmenter`"
        )
    if not issubclass(module, (DualEncoder, AnswersQuestions, ClassifiesImages)):
        missing = "texts"
    elif "mean" not in meta["preprocessing"]:  # of stage 2
        missing = "images"
    else:
        return
    raise UnfitModelError(
        f"the model in {folder} (config.model.kind={kind!r}, config.task.kind="
        f"{meta['config']['task']['kind']!r}) was trained without {missing}; give the work folder"
        " of configs/stage3.py or of a fine-tuning"
    )


def _text(path: str | os.PathLike | None) -> str | None:
    return None if path is None else os.fspath(path)


def _locked(config: dict[str, Any]) -> ConfigDict:
    locked = ConfigDict(config)
    locked.lock()
    return locked


def _batch_size(asked: int | None, mesh: jax.sharding.Mesh) -> int:
    devices = mesh.devices.size
    if asked is None:
        return devices * _ROWS.get(mesh.devices.flat[0].platform, _ROWS_OF_ACCELERATORS)
    if asked < 1 or asked % devices:
        raise WrongBatchSizeError(
            f"batch_size={asked} does not divide over {devices} devices; use a multiple of"
            f" {devices}"
        )
    return asked
