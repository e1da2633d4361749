"""The tokenizer and the answers of a checkpoint: those that it carries, those of a file that is
given, or, of checkpoints from before they carried them, what lies where it says or beside it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.checkpoints.carried import carried_files
from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text, find_answers, read_answers
from vlmo_jax.datasets.class_lists import CLASSES, classes_facts, read_classes
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.input.text.tokenizer import EMBEDDED, Tokenizer, load_tokenizer, read_tokenizer


class WrongFileError(UserError, ValueError):
    """A tokenizer or a list of answers that is not the one of the model."""


def find_tokenizer(meta: Mapping[str, Any], folder: Path, given: str | None) -> Tokenizer | None:
    """The tokenizer of a checkpoint, or None where it is nowhere.

    Args:
        meta: of the checkpoint.
        folder: work folder of it.
        given: a file that a person names, or None.

    Raises:
        WrongFileError: that file is another tokenizer than the one it was trained with.
    """
    saved = meta.get("tokenizer")
    tokenizer = load_tokenizer(given) if given else _kept_tokenizer(meta, folder)
    if tokenizer is None:
        return None
    if saved and saved["sha256"] != tokenizer.fingerprint:
        raise WrongFileError(
            f"tokenizer={tokenizer.path} (SHA-256 {tokenizer.fingerprint[:12]}...) is not the one"
            f" that the model in {folder} was trained with ({saved['file']}, SHA-256"
            f" {saved['sha256'][:12]}...); give that one, or none"
        )
    rows = meta["config"]["model"]["vocab_size"]
    if tokenizer.vocab_size > rows:
        raise WrongFileError(
            f"tokenizer={tokenizer.path} has {tokenizer.vocab_size} tokens, and the model in"
            f" {folder} words for {rows}; give the tokenizer that it was trained with"
        )
    return tokenizer


def _kept_tokenizer(meta: Mapping[str, Any], folder: Path) -> Tokenizer | None:
    for name, contents in carried_files(meta).items():
        if Path(name).stem == "tokenizer":
            return read_tokenizer(name, contents)
    saved = meta.get("tokenizer")
    if not saved:
        return None
    for path in _places(saved["file"], folder):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == saved["sha256"]:
            return load_tokenizer(str(path))
    return None


def _places(file: str, folder: Path) -> Iterator[Path]:
    """Where the tokenizer of a checkpoint that carries none may lie."""
    path = Path(file)
    yield from (folder / f"tokenizer{path.suffix}", folder / path.name, path, *EMBEDDED.values())


def find_list_of_answers(
    meta: Mapping[str, Any], folder: Path, given: str | None
) -> tuple[str, ...] | None:
    """The answers that a model of questions chooses from by id, or None where they are nowhere.

    Args:
        meta: of the checkpoint.
        folder: work folder of it.
        given: a file, or the folder of a data set, that a person names, or None.

    Raises:
        WrongFileError: that file lists other answers than those it was trained with.
    """
    number, saved = meta["config"]["model"].get("num_answers"), meta["preprocessing"].get("answers")
    if given:
        path = user_path(given)
        answers: Sequence[str] = read_answers(path / ANSWERS if path.is_dir() else path)
        if len(answers) != number or saved and _digest(answers) != saved["sha256"]:
            raise WrongFileError(
                f"answers={path} lists {len(answers)} answers, and the model in {folder} was"
                f" trained with {number}{' others' if len(answers) == number else ''}; give the"
                " list of the data that it was trained on"
            )
        return tuple(answers)
    if carried := carried_files(meta).get(ANSWERS):
        return tuple(carried.decode().splitlines())
    if not saved:
        return None
    config = meta["config"]
    try:
        kept = read_answers(
            find_answers(config["data"].get("source") or "", config["data"].get("answers"))
        )
    except (DataError, OSError):
        return None
    return tuple(kept) if _digest(kept) == saved["sha256"] else None


def find_list_of_classes(
    meta: Mapping[str, Any], folder: Path, given: str | None
) -> tuple[str, ...] | None:
    """The classes that a model was trained to choose from by number, or None where they are
    nowhere.

    Args:
        meta: of the checkpoint.
        folder: work folder of it.
        given: a file that a person names, or None.

    Raises:
        WrongFileError: that file lists other classes than those it was trained with.
    """
    if given:
        number, saved = meta["config"]["model"].get("num_classes"), meta["preprocessing"]
        classes = read_classes(user_path(given))
        known = saved.get("classes")
        if len(classes) != number or known and classes_facts(classes) != known:
            raise WrongFileError(
                f"classes={given} lists {len(classes)} classes, and the model in {folder} was"
                f" trained with {number}{' others' if len(classes) == number else ''}; give the"
                " list that it was trained with"
            )
        return tuple(classes)
    carried = carried_files(meta).get(CLASSES)
    return tuple(carried.decode().splitlines()) if carried else None


def _digest(answers: Sequence[str]) -> str:
    return hashlib.sha256(answers_text(answers).encode()).hexdigest()
