"""Archives of TorchScript: the tensors of the modules in them, by the names of their state dict.

Such an archive holds a program beside its data. Of the program nothing is read: the pickle of the
data names classes of the program, and here a note of the name takes the place of each object.
"""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from vlmo_jax.interop.tensor_files.errors import TensorFileError, shown
from vlmo_jax.interop.tensor_files.pickles import Call
from vlmo_jax.interop.tensor_files.torch_tensors import is_tensor

# Modules of the program itself, and what marks lists of one type.
_OF_SCRIPTS = ("__torch__.", "torch.jit._pickle.")
MAX_MODULES = 20_000


def is_script(members: Iterable[str]) -> bool:
    """Whether these are the members of an archive of TorchScript."""
    return any("/code/" in name or name.endswith("constants.pkl") for name in members)


def in_scripts(name: str) -> bool:
    """Whether a pickle of TorchScript may name this, beside what all may."""
    return name.startswith(_OF_SCRIPTS)


def module_tensors(path: pathlib.Path, content: Any) -> dict[str, Any]:
    """The tensors of a module and of all modules in it: dotted name -> what stands for it.

    Args:
        path: of the file, for messages.
        content: of its pickle.

    Raises:
        TensorFileError: it holds no module, or none with tensors.
    """
    if not _is_module(content):
        raise TensorFileError(f"{path}: this is TorchScript without a module, so it has no weights")
    tensors = dict(_tensors(path, content))
    if not tensors:
        raise TensorFileError(f"{path}: the module of this TorchScript program has no weights")
    return tensors


def _is_module(value: Any) -> bool:
    return isinstance(value, Call) and value.name.startswith("__torch__.")


def _tensors(path: pathlib.Path, module: Call) -> Iterator[tuple[str, Any]]:
    waiting, seen = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop(0)
        seen += 1
        if seen > MAX_MODULES:
            raise TensorFileError(f"{path}: its modules lie in each other without end")
        state = module.state if isinstance(module.state, dict) else {}
        for name, value in state.items():
            if not isinstance(name, str):
                raise TensorFileError(f"{path}: {shown(name)} is no name of a part of a module")
            if is_tensor(value):
                yield prefix + name, value
            elif _is_module(value):
                waiting.append((f"{prefix}{name}.", value))
