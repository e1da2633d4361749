"""The model that comes with the package, and how commands are told to take it."""

from pathlib import Path

BUNDLED = Path(__file__).parent / "model"
NAME = "demo"  # in the place of a folder


def model_folder(given: str) -> str:
    """The folder of `--model`: `demo` is the model that comes with the package, `./demo` a folder
    of that name.
    """
    return str(BUNDLED) if given == NAME else given
