"""What is said of files without tensors that can be read: the file, the tensor, the cause, the
cure.
"""

import pathlib
from collections.abc import Collection

from vlmo_jax.commands.endings import UserError

LONGEST_NAME = 300  # letters


class TensorFileError(UserError, ValueError):
    """A file without tensors that can be read; the message names it and says what is wrong."""


class MissingFileError(TensorFileError, FileNotFoundError):
    """There is no such file, or one that another file asks for is missing."""


# How files begin that people have under a checkpoint's name: (bytes, what it is, what to do).
_OTHERS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, not the file itself",
        "run `git lfs pull` in the repository it was cloned from",
    ),
    (b"<!doctype", "a web page", "the address asked for a login or is wrong; download it again"),
    (b"<html", "a web page", "the address asked for a login or is wrong; download it again"),
    (b"<?xml", "an answer of a server in XML", "the download was refused; download it again"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first: gunzip or tar -xzf"),
    (b"BZh", "a bzip2 archive", "unpack it first: bunzip2"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first: unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first: unzstd"),
    (b"\x89hdf", "an HDF5 file", "save its tensors as .safetensors or .npz"),
    (b"gguf", "a GGUF file", "its tensors are quantised; take the checkpoint it was made from"),
    (b"\x93numpy", "one array of numpy (.npy)", "save named arrays: numpy.savez(FILE, name=array)"),
)


def refuse_other_files(path: pathlib.Path) -> None:
    """Looks at the first bytes of a file for what it is instead of a checkpoint.

    Raises:
        TensorFileError: it is empty, a pointer of Git LFS, a web page, or an archive of another
            kind.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise damaged(path, "the file is empty")
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, what, cure in _OTHERS:
        if plain.startswith(start.lower()):
            raise TensorFileError(f"{path}: this is {what}; {cure}")
    if head[257:262] == b"ustar":
        raise TensorFileError(f"{path}: this is a tar archive; unpack it first: tar -xf")


def damaged(path: pathlib.Path, error: Exception | str) -> TensorFileError:
    """The error for a file that is not as its format says."""
    lines = str(error).strip().splitlines()
    reason = lines[0][:200] if lines else type(error).__name__
    return TensorFileError(
        f"{path}: damaged or cut, or not what its suffix says ({reason}); copy or download it again"
    )


def shown(name: object) -> str:
    """A name of a tensor or a key as a message can hold it: on one line, and not too long."""
    text = str(name)
    if not text.isprintable() or not text:
        text = ascii(text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def few(names: Collection[str]) -> str:
    """Some names for a message: the first five and how many more there are."""
    first = ", ".join(shown(name) for name in list(names)[:5])
    return first + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def check_name(path: pathlib.Path, name: object) -> str:
    """The name of a tensor, if it is one that can be spoken of.

    Raises:
        TensorFileError: it is no text, empty, very long, or has letters that cannot be printed.
    """
    if isinstance(name, str) and name and len(name) <= LONGEST_NAME and name.isprintable():
        return name
    raise TensorFileError(
        f"{path}: {shown(name)} is no name of a tensor (1 to {LONGEST_NAME} letters that can be"
        " printed); save the state_dict of the model"
    )
