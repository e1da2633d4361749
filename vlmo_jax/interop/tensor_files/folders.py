"""Which files a path stands for: a file, a folder of transformers or DeepSpeed, an index of
shards.
"""

import json
import pathlib
import re
from typing import Any, NamedTuple

from vlmo_jax.interop.tensor_files.errors import (
    MissingFileError,
    TensorFileError,
    damaged,
    few,
    refuse_other_files,
    shown,
)
from vlmo_jax.interop.tensor_files.safetensors import MAX_HEADER, unique_keys

INDEX_SUFFIX = ".index.json"
# As transformers looks for them.
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_IN_FOLDER = (
    "model.safetensors",
    f"model.safetensors{INDEX_SUFFIX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX_SUFFIX}",
)
_DEEPSPEED = "mp_rank_*_model_states.pt"
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})(\.[a-z]+)")


class Source(NamedTuple):
    """The files of a checkpoint.

    Attributes:
        files: one, or the shards of an index.
        places: name of a tensor -> the file it should be in; None without an index.
        left_out: files of the folder that would have served as well, in words.
    """

    files: tuple[pathlib.Path, ...]
    places: dict[str, pathlib.Path] | None = None
    left_out: str = ""


def find_files(path: pathlib.Path) -> Source:
    """The files that a path stands for.

    Raises:
        MissingFileError: there is no such file, or a shard is missing.
        TensorFileError: a folder without one checkpoint, or a broken index.
    """
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    if path.name.endswith(INDEX_SUFFIX):
        return _of_index(path)
    shard = _SHARD.fullmatch(path.name)
    if shard and int(shard[2]) > 1:
        index = path.with_name(f"{shard[1]}{shard[3]}{INDEX_SUFFIX}")
        raise TensorFileError(
            f"{path}: one of {int(shard[2])} shards; give the folder, or {index.name} beside them"
        )
    return Source((path,))


def _of_folder(folder: pathlib.Path) -> Source:
    found = [folder / name for name in _IN_FOLDER if (folder / name).is_file()]
    if found:
        left_out = few([file.name for file in found[1:]])
        source = _of_index(found[0]) if found[0].name not in _WHOLE else Source((found[0],))
        return source._replace(left_out=left_out)
    if (folder / ".metadata").is_file() or any(folder.glob("*.distcp")):
        raise TensorFileError(
            f"{folder}: a distributed checkpoint of torch; make one file of it: python -m"
            " torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt"
        )
    parts = sorted(folder.rglob(_DEEPSPEED))
    if len(parts) != 1:
        raise TensorFileError(
            f"{folder}: a folder with {len(parts)} files {_DEEPSPEED} and none of"
            f" {', '.join(_IN_FOLDER)}; give a file, a folder of transformers, or a DeepSpeed"
            " folder with exactly one"
        )
    return Source((parts[0],))


def _of_index(path: pathlib.Path) -> Source:
    refuse_other_files(path)
    if path.stat().st_size > MAX_HEADER:
        raise damaged(path, f"an index of {path.stat().st_size:,} bytes")
    try:
        index = json.loads(path.read_bytes(), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise damaged(path, "no weight_map of names and files in it")
    shards = {file: _shard(path, file) for file in dict.fromkeys(map(_text(path), places.values()))}
    return Source(tuple(shards.values()), {name: shards[file] for name, file in places.items()})


def _text(path: pathlib.Path) -> Any:
    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        raise damaged(path, f"its weight_map names {shown(value)} as a file")

    return text


def _shard(index: pathlib.Path, name: str) -> pathlib.Path:
    """A shard that an index names, if it lies in its folder."""
    plain = name.replace("\\", "/")
    inside = plain and "\0" not in plain and not pathlib.PurePosixPath(plain).is_absolute()
    if not inside or ".." in plain.split("/") or re.match(r"[A-Za-z]:", plain):
        raise TensorFileError(
            f"{index}: names {shown(name)}, which is outside of its folder; an index names files"
            " beside it"
        )
    path = index.parent / name
    if not path.is_file():
        raise MissingFileError(f"{index}: names {shown(name)}, which is missing; download it too")
    return path
