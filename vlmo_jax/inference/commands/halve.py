"""Stores a trained model alone, in half precision: python -m vlmo_jax.halve MODEL OUT

    python -m vlmo_jax.halve runs/stage3 small_stage3
    python -m vlmo_jax.halve runs/stage3/checkpoints/1600 small_stage3 --averaged

OUT becomes a folder that vlmo_jax.load, evaluation and config.init_from take, to send around:
parameters in float16, config, preprocessing, tokenizer and list of answers, and nothing of the
training. That is a sixth of a checkpoint of a run. The model computes as before; of each parameter
the first three digits stay, which changes vectors by about a thousandth. Parameters that float16
cannot hold are refused.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.folders import whole_or_nothing
from vlmo_jax.commands.paths import user_path


class TooLargeError(UserError, ValueError):
    """A parameter that float16 cannot hold."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.halve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="as vlmo_jax.load takes it")
    parser.add_argument("out", metavar="OUT", type=user_path, help="folder to make")
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument("--answers", metavar="FILE", help="where the model carries none")
    parser.add_argument("--averaged", action="store_true", help="its averaged parameters")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Stores the model that the command line names."""
    args = parse(argv)
    size = halve(
        args.model,
        args.out,
        tokenizer=args.tokenizer,
        answers=args.answers,
        averaged=args.averaged,
    )
    print(f"Wrote {args.out}: {size:,} parameters in float16")


def halve(
    model: str,
    out: Path,
    *,
    tokenizer: str | None = None,
    answers: str | None = None,
    averaged: bool = False,
) -> int:
    """Stores a model in half precision.

    Args:
        model: as vlmo_jax.load takes it.
        out: folder to make.
        tokenizer, answers: files, where the checkpoint carries none.
        averaged: take the averaged parameters in place of those that were trained.

    Returns:
        How many parameters it has.

    Raises:
        FileNotFoundError: there is no checkpoint.
        TargetExistsError: there is something at `out`.
        TooLargeError: a parameter does not fit.
    """
    import numpy as np
    from flax import nnx

    from vlmo_jax.checkpoints.saved_params import SavedParams
    from vlmo_jax.checkpoints.store import save_params

    saved = SavedParams(model, averaged=averaged)
    meta = _complete(saved.meta, saved.name, tokenizer, answers)
    arrays = saved.read(list(saved.shapes))
    largest = np.finfo(np.float16).max
    for path, array in arrays.items():
        if (worst := np.abs(array.astype(np.float32)).max(initial=0)) > largest:
            raise TooLargeError(
                f"{'/'.join(path)} has a value of {worst:.3g}, and float16 holds {largest:.3g} at"
                " most; use the model as it is"
            )
    halves = {path: array.astype(np.float16) for path, array in arrays.items()}
    with whole_or_nothing(out.absolute()) as folder:
        params = nnx.traversals.unflatten_mapping(halves)
        save_params(folder / "checkpoints", params, json.loads(json.dumps(meta)))
        for mark in folder.rglob("commit_success.txt"):  # where this was made is nobody's business
            mark.write_text("Checkpoint commit was successful")
    return sum(array.size for array in arrays.values())


def _complete(
    meta: Mapping[str, Any], name: Path, tokenizer: str | None, answers: str | None
) -> dict[str, Any]:
    """The meta with all files that the model needs, also of checkpoints from before they carried
    any, and without the places where they were.
    """
    from vlmo_jax.checkpoints.carried import FILES, pack_files
    from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text
    from vlmo_jax.inference.vocabularies import find_list_of_answers, find_tokenizer

    folder, files, new = name.parent.parent, dict(meta.get(FILES, {})), dict(meta)
    if found := find_tokenizer(meta, folder, tokenizer):
        kept = f"tokenizer{found.path.suffix}"
        files |= pack_files({kept: found.contents})
        new["tokenizer"] = {"file": kept, "sha256": found.fingerprint}
    if listed := find_list_of_answers(meta, folder, answers):
        files |= pack_files({ANSWERS: answers_text(listed).encode()})
    return {**new, FILES: files, "halved": "/".join(name.parts[-3:])}
