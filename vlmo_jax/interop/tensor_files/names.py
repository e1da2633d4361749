"""Names of tensors without what wrappers put before them and beside them."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from vlmo_jax.interop.tensor_files.errors import TensorFileError, few

# Wrappers name all tensors with these in front, in any order and nesting: DDP, Lightning,
# DeepSpeed, torch.compile, averages, FSDP.
PREFIXES = (
    *("module.", "model.", "state_dict.", "_forward_module.", "_orig_mod.", "ema_model."),
    *("averaged_model.", "model_ema.", "online_model.", "ema.", "_fsdp_wrapped_module."),
    *("_checkpoint_wrapped_module.",),
)
# These stand in the middle too, where a part of the model is wrapped.
INNER = re.compile(r"(?<![^.])(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
# Numbers that wrappers keep: of averages, of batch norms.
COUNTERS = ("n_averaged", "num_batches_tracked", "num_updates", "initted", "step", "decay")


class Unwrapped(NamedTuple):
    """Tensors by their own names.

    Attributes:
        tensors: name -> array.
        taken_off: what was taken off and left out, in words, "" if nothing.
    """

    tensors: dict[str, np.ndarray]
    taken_off: str


def is_counter_name(name: str) -> bool:
    """Whether wrappers call a number so that they keep beside the weights."""
    return name.rpartition(".")[2] in COUNTERS


def unwrap_names(path: object, tensors: Mapping[str, np.ndarray]) -> Unwrapped:
    """Takes off what wrappers add to names.

    A prefix comes off where all names have it; counters of wrappers are left out.

    Args:
        path: of the file, for messages.
        tensors: name -> array.

    Raises:
        TensorFileError: two tensors would have one name, or the names are those of two models.
    """
    counters = [name for name, tensor in tensors.items() if _is_counter(name, tensor)]
    names = {name: name for name in tensors if name not in counters}
    prefixes = []
    while prefix := _shared_prefix(names.values()):
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
        prefixes.append(prefix)
    _refuse_two_models(path, names.values())
    inner: dict[str, int] = {}
    for name, short in names.items():
        for found in INNER.findall(short):
            inner[found] = inner.get(found, 0) + 1
        names[name] = INNER.sub("", short)
    _refuse_collisions(path, names)
    words = [f"took off {''.join(prefixes)} from {len(names):,} names"] if prefixes else []
    words += [f"took off {found}. in {count:,} places" for found, count in inner.items()]
    if counters:
        words.append(f"left out {few(counters)}")
    return Unwrapped({short: tensors[name] for name, short in names.items()}, "; ".join(words))


def _is_counter(name: str, tensor: np.ndarray) -> bool:
    return is_counter_name(name) and tensor.size == 1 and tensor.ndim <= 1


def _shared_prefix(names: Iterable[str]) -> str | None:
    """The prefix of PREFIXES that all names begin with, or None."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in names):
            return prefix
    return None


def _refuse_two_models(path: object, names: Iterable[str]) -> None:
    """Refuses a model beside its average: which of them is meant nobody can tell."""
    heads = {prefix: {n for n in names if n.startswith(prefix)} for prefix in PREFIXES}
    rests = {prefix: {n.removeprefix(prefix) for n in its} for prefix, its in heads.items() if its}
    for first, its in rests.items():
        for second, others in rests.items():
            if first < second and its & others:
                raise TensorFileError(
                    f"{path}: holds two models, {first} ({len(its):,} tensors) and {second}"
                    f" ({len(others):,}), such as {few(sorted(its & others)[:1])}; save the one"
                    " that is meant alone"
                )


def _refuse_collisions(path: object, names: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for name, short in names.items():
        if short in seen:
            raise TensorFileError(
                f"{path}: {few([seen[short]])} and {few([name])} are both {few([short])} without"
                " what wrappers added; save the one that is meant alone"
            )
        seen[short] = name
