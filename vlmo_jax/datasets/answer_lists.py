"""The answers that a model chooses from, as a file: by default `answers.txt` beside the shards."""

import json
import pathlib
from collections.abc import Sequence

from vlmo_jax.commands.paths import user_path
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.plain_text import read_lines
from vlmo_jax.datasets.sources import source_folder, split_names

ANSWERS = "answers.txt"


def answers_text(answers: Sequence[str]) -> str:
    """The contents of such a file: an answer a line, in the order of their ids."""
    return "".join(f"{answer}\n" for answer in answers)


def find_answers(source: str, file: str | None = None) -> pathlib.Path:
    """The file of the answers.

    Args:
        source: data set, or several joined by "+" whose files must be alike.
        file: a file that takes the place of theirs.

    Raises:
        MissingDataError: there is none.
        DataError: joined data sets have other answers.
    """
    if file:
        return user_path(file)
    paths = [source_folder(name) / ANSWERS for name in split_names(source)]
    lists = [read_answers(path) for path in paths]
    for path, answers in zip(paths, lists, strict=True):
        if answers != lists[0]:
            raise DataError(
                f"{paths[0]} and {path} list other answers; give one list for both with"
                " config.data.answers=FILE"
            )
    return paths[0]


def read_answers(path: pathlib.Path) -> list[str]:
    """Reads a list of answers by id.

    Args:
        path: an answer a line; or BEiT-3's answer2label.txt, {"answer": ..., "label": ...} a line;
            or one JSON object {"0": answer, ...}, as ViLT's of Hugging Face.

    Raises:
        MissingDataError: there is no such file.
        DataError: it lists nothing, an answer twice, or ids with gaps.
    """
    if not path.is_file():
        raise MissingDataError(
            f"{path}: there is no such file, which lists the answers that a model chooses from;"
            " build the data set again, or name a file, an answer a line, with config.data.answers"
        )
    lines = [line.strip() for line in read_lines(path)]
    if not any(lines):
        raise DataError(f"{path} is empty; list an answer a line")
    answers = _labelled(lines, path) if lines[0].startswith("{") else lines
    _check(answers, path)
    return answers


def _labelled(lines: Sequence[str], path: pathlib.Path) -> list[str]:
    try:
        text = "\n".join(lines)
        if '"answer"' in lines[0]:
            rows = [json.loads(line) for line in lines if line]
            by_id = {int(row["label"]): str(row["answer"]) for row in rows}
            count = len(rows)
        else:
            by_id = {int(number): str(answer) for number, answer in json.loads(text).items()}
            count = len(by_id)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no list of answers ({type(error).__name__}: {error}); write an answer a"
            ' line, or {"answer": "yes", "label": 0} a line'
        ) from error
    if sorted(by_id) != list(range(count)):
        raise DataError(f"{path} gives {count} answers, whose labels are not 0 to {count - 1}")
    return [by_id[number] for number in range(count)]


def _check(answers: Sequence[str], path: pathlib.Path) -> None:
    seen: dict[str, int] = {}
    for number, answer in enumerate(answers, 1):
        if not answer:
            raise DataError(f"{path} line {number} is blank; each line is an answer")
        if answer in seen:
            raise DataError(
                f"{path} lists {answer!r} twice, as number {seen[answer]} and {number}; once is"
                " enough"
            )
        seen[answer] = number
