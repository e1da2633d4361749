"""The command line of the modules that build the embedded data sets: SRC OUT [--overwrite]."""

import argparse
import sys
import tarfile
from collections.abc import Callable, Sequence

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path


def read_member(tar: tarfile.TarFile, name: str) -> bytes:
    """Returns the bytes of a file in a tar.

    Raises:
        ValueError: it is no file.
    """
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} in {tar.name!r} is no file")
    return file.read()


@told_in_one_line()
def build_embedded(
    build: Callable[..., dict[str, int]],
    argv: Sequence[str] | None,
    *,
    name: str,
    description: str,
    holds: str,
    unit: str,
) -> None:
    """Reads the command line, builds, and says what was written.

    Args:
        build: function of the folder SRC, the folder OUT and `overwrite`, that returns {split:
            number of records}.
        argv: the command line; None for that of the process.
        name: of the module, for --help.
        description: its docstring.
        holds: what SRC holds, in words.
        unit: what a record is, in the plural.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m vlmo_jax.datasets.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=user_path, metavar="SRC", help=f"folder with {holds}")
    parser.add_argument(
        "out", type=user_path, metavar="OUT", help="folder to write the data set to"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set that is already at OUT"
    )
    args = parser.parse_args(argv)
    try:
        counts = build(args.source, args.out, overwrite=args.overwrite)
    except (ValueError, tarfile.TarError) as error:
        sys.exit(f"error: {error}")
    print(
        f"Wrote {', '.join(f'{split} {count}' for split, count in counts.items())} {unit} to"
        f" {args.out}"
    )
