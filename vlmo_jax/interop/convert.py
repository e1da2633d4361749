"""Converts checkpoints of others to ours and back.

    python -m vlmo_jax.interop.convert SRC OUT --from=FORMAT [--tokenizer=vocab.txt]
    python -m vlmo_jax.interop.convert CHECKPOINT OUT.safetensors --to=FORMAT

The first makes a folder OUT with a checkpoint of parameters, step 0, and in its meta the config,
the preprocessing and the tokenizer, so that `--config.init_from=OUT`, evaluation and
`checkpoint.SavedParams` find all they need. SRC is a .pt/.pth/.ckpt/.bin, .safetensors or .npz
file, a folder of transformers, an index of shards, or a DeepSpeed folder; what wrappers added to
names is taken off, and said (see tensor_files). The second writes .safetensors, or .pt with torch,
from a checkpoint of ours, converted or trained. Tensors that the official model owns and ours has
no place for lie in OUT/aside.safetensors, and types other than float32 in the meta, so that the
way back is exact to the bit.

Nothing is left behind by a conversion that fails: it works in a folder beside OUT that is renamed
at the end.
"""

import functools
import hashlib
import json
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
import tqdm
from absl import app, flags
from flax import nnx

from vlmo_jax.checkpoints.carried import pack_files
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.commands.absl_flags import parse_in_one_line
from vlmo_jax.commands.endings import UserError, told_in_one_line
from vlmo_jax.commands.folders import refuse_existing, whole_or_nothing
from vlmo_jax.commands.freed_memory import return_freed_memory
from vlmo_jax.commands.paths import user_path
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.interop.converted import Converted
from vlmo_jax.interop.float32_tensors import FLOATS, Float32Tensors
from vlmo_jax.interop.formats import FORMATS
from vlmo_jax.interop.tensor_files import (
    TensorFileError,
    check_whole,
    import_torch,
    is_mapped,
    read_safetensors,
    read_tensors,
    write_safetensors,
    write_torch,
)
from vlmo_jax.models.clip import ACTIVATIONS

ASIDE = "aside.safetensors"
EXPORT_SUFFIXES = (".safetensors", ".pt", ".pth")


class ConversionError(UserError, ValueError):
    """What is asked for cannot be converted; the message says why and what would do."""


SOURCE = flags.DEFINE_enum(
    "from", None, [*FORMATS, "checkpoint"], "Format of SRC; `checkpoint` is ours"
)
TARGET = flags.DEFINE_enum("to", None, list(FORMATS), "Format to write from a checkpoint of ours")
TOKENIZER = flags.DEFINE_string(
    "tokenizer",
    None,
    "BERT's vocab.txt of the checkpoint; default: vocab.txt beside or in SRC, if there is one; of a"
    " CLIP with its 49,408 tokens: clip",
)
HINTS: dict[str, flags.FlagHolder] = {
    "activation": flags.DEFINE_enum(
        "activation", None, list(ACTIVATIONS), "Of a CLIP, where no file beside it tells"
    ),
    "image_size": flags.DEFINE_integer(
        "image_size", None, "Pixels a side, where shapes do not tell", lower_bound=1
    ),
    "text_positions": flags.DEFINE_integer(
        "text_positions",
        None,
        "Longest text of VLMo's relative position table (published: 196)",
        lower_bound=1,
    ),
    "num_heads": flags.DEFINE_integer(
        "num_heads",
        None,
        "Attention heads, where shapes do not tell (absolute positions; of a CLIP both towers')",
        lower_bound=1,
    ),
    "num_upper": flags.DEFINE_integer(
        "num_upper",
        None,
        "Upper blocks, where names do not tell (no vision-language experts)",
        lower_bound=1,
    ),
}


def convert(
    source: str | pathlib.Path,
    target: str | pathlib.Path,
    format_name: str,
    *,
    tokenizer: str | None = None,
    **hints: int | str | None,
) -> dict[str, Any]:
    """Makes a checkpoint of ours from one of others.

    Args:
        source: file of others, see tensor_files.read_tensors.
        target: folder to make.
        format_name: of FORMATS.
        tokenizer: path of the vocabulary that the text was cut with, copied into the folder; None
            for one beside the source, or none.
        hints: sizes that the shapes do not tell, by name (see HINTS).

    Returns:
        The meta of the checkpoint.

    Raises:
        FileExistsError: there is something at `target`.
        FileNotFoundError, ImportError, ValueError: see read_tensors and the formats; a vocabulary
            that does not fit.
    """
    source, target = user_path(source), user_path(target).absolute()
    with whole_or_nothing(target) as folder:
        converted, types = _read(source, format_name, hints)
        aside = _cast(converted.aside, types)
        config, saved_tokenizer = dict(converted.config), None
        files = dict(converted.files)
        usual = FORMATS[format_name].tokenizer
        if vocabulary := _vocabulary(source, tokenizer, usual, config["model"]):
            shutil.copyfile(vocabulary, folder / vocabulary.name)
            contents = vocabulary.read_bytes()
            files[f"tokenizer{vocabulary.suffix}"] = contents
            config["tokenizer"] = str(target / vocabulary.name)
            saved_tokenizer = {
                "file": config["tokenizer"],
                "sha256": hashlib.sha256(contents).hexdigest(),
            }
        meta = {
            "config": config,
            "preprocessing": converted.preprocessing,
            "tokenizer": saved_tokenizer,
            "files": pack_files(files),
            "versions": {"jax": jax.__version__},
            "official": {
                "format": format_name,
                "source": source.name,
                "types": types,
                "extra": converted.extra,
            },
        }
        meta = json.loads(json.dumps(meta))
        if aside:
            write_safetensors(folder / ASIDE, aside)
        print(
            f"Writing {sum(x.size for x in jax.tree.leaves(converted.params)):,} parameters",
            flush=True,
        )
        save_params(folder / "checkpoints", converted.params, meta)
    return meta


def _read(
    source: pathlib.Path, format_name: str, hints: Mapping[str, int | str | None]
) -> tuple[Converted, dict[str, str]]:
    """The checkpoint in our terms, and the types of its tensors that float32 took the place of."""
    with tqdm.tqdm(unit=" tensors", desc="Reading", disable=None) as bar:
        tensors = Float32Tensors(
            functools.partial(read_tensors, source), mapped=is_mapped(source), bar=bar
        )
        check_whole(source)
        if tensors.taken_off:
            tqdm.tqdm.write(f"{source}: {tensors.taken_off}")
        known, given = FORMATS[format_name], {k: v for k, v in hints.items() if v is not None}
        try:
            converted = known.read(tensors, **{**known.hints_beside(source), **given})
        except ValueError as error:
            raise TensorFileError(f"{source}: {error}") from error
    # What is kept aside without change needs no type to go back to.
    types = {
        name: kind
        for name, kind in tensors.types.items()
        if name not in converted.aside or kind in FLOATS
    }
    return converted, types


def _cast(tensors: Mapping[str, np.ndarray], types: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Tensors in the types that they came in; those that `types` does not name stay as they are."""
    return {
        name: tensor.astype(_dtype(types[name])) if name in types else tensor
        for name, tensor in tensors.items()
    }


def _dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _vocabulary(
    source: pathlib.Path, tokenizer: str | None, usual: str, model: Mapping[str, Any]
) -> pathlib.Path | None:
    """Path of the vocabulary to keep with a checkpoint of this model, or None.

    Args:
        source: of the checkpoint.
        tokenizer: that a person names, or None.
        usual: the tokenizer of published models of this format, "" where there is none.
        model: fields of `config.model`.
    """
    if "text_length" not in model:
        if tokenizer:
            raise ConversionError(
                f"--tokenizer={tokenizer}: this checkpoint reads no texts; leave the flag out"
            )
        return None
    beside = (source if source.is_dir() else source.parent) / "vocab.txt"
    if not tokenizer and usual and load_tokenizer(usual).vocab_size == model["vocab_size"]:
        tokenizer = usual
    elif not tokenizer and beside.is_file():
        tokenizer = str(beside)
    if not tokenizer:
        print(
            "No tokenizer is kept with the checkpoint, and evaluation will ask for it; give"
            f" --tokenizer={usual or 'vocab.txt'}",
            file=sys.stderr,
        )
        return None
    loaded, rows = load_tokenizer(tokenizer), model["vocab_size"]
    if loaded.vocab_size > rows:
        raise ConversionError(
            f"{loaded.path}: {loaded.vocab_size} tokens, but the checkpoint has words for {rows};"
            " give the vocabulary it was trained with"
        )
    return loaded.path


def export(
    source: str | pathlib.Path, target: str | pathlib.Path, format_name: str
) -> pathlib.Path:
    """Writes a checkpoint of ours as a file of others.

    Args:
        source: a work folder, a converted one, or a checkpoint in one; see
            checkpoint.find_checkpoint.
        target: .safetensors or .pt file to make; without a suffix, .safetensors is added.
        format_name: of FORMATS.

    Returns:
        The path of the file.

    Raises:
        FileExistsError: there is something at `target`.
        FileNotFoundError, ImportError, ValueError: there is no checkpoint, no torch for .pt, or the
            model is of another kind.
    """
    target = user_path(target).absolute()
    target = target if target.suffix else target.with_suffix(".safetensors")
    if target.suffix not in EXPORT_SUFFIXES:
        raise ConversionError(
            f"{target}: suffix {target.suffix!r} is not known; use one of"
            f" {', '.join(EXPORT_SUFFIXES)}"
        )
    refuse_existing(target)
    if target.suffix != ".safetensors":
        import_torch(target)
    saved = SavedParams(source)
    official = saved.meta.get("official", {})
    aside_file = saved.name.parent.parent / ASIDE
    aside = read_safetensors(aside_file) if official and aside_file.is_file() else {}
    params = nnx.traversals.unflatten_mapping(saved.read(list(saved.shapes)))
    try:
        tensors = FORMATS[format_name].write(params, saved.meta, aside)
    except ValueError as error:
        raise ConversionError(f"{saved.name}: {error}") from error
    tensors = _cast(tensors, official.get("types", {}))
    plain = target.with_name(f".{target.name}.{os.getpid()}.safetensors")
    part = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tqdm.tqdm(total=len(tensors), unit=" tensors", desc="Writing", disable=None) as bar:
            write_safetensors(plain, tensors, bar)
        # torch wants all tensors at once: those of the mapped file in place of these.
        del params, tensors
        if target.suffix == ".safetensors":
            plain.rename(target)
        else:
            write_torch(part, plain)
            part.rename(target)
    finally:
        plain.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return target


@told_in_one_line()
def main(argv: list[str]) -> None:
    """Runs the command; what it refuses is one line instead of a traceback."""
    logging.getLogger("absl").setLevel(logging.WARNING)
    return_freed_memory()
    if len(argv) != 3:
        raise app.UsageError("give SRC and OUT, and --from or --to")
    _, source, target = argv
    try:
        if TARGET.value:
            if SOURCE.value not in (None, "checkpoint"):
                raise ConversionError(
                    f"--from={SOURCE.value} --to={TARGET.value}: convert to a checkpoint of ours"
                    " first, then --to alone"
                )
            print(f"Wrote {export(source, target, TARGET.value)}")
        elif SOURCE.value in FORMATS:
            hints = {name: flag.value for name, flag in HINTS.items()}
            meta = convert(source, target, SOURCE.value, tokenizer=TOKENIZER.value, **hints)
            print(f"Wrote {target}: {_described(meta['config']['model'])}")
        else:
            raise app.UsageError(f"give --from=FORMAT or --to=FORMAT, one of {', '.join(FORMATS)}")
    except (ImportError, ValueError) as error:
        sys.exit(f"error: {error}")


def _described(model: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(model.items()) if name != "kind")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_in_one_line)
