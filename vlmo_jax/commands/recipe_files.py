"""Where recipes lie, and what `from configs import ...` means inside one.

The project's own lie in configs/ at the top of a checkout, and travel as vlmo_jax/configs in an
installed package. No folder of theirs is ever on Python's path: `configs` is too common a name.
"""

import contextlib
import importlib.util
import os
import pathlib
import sys
from collections.abc import Iterator

from vlmo_jax.commands.paths import user_path

PACKAGE = pathlib.Path(__file__).parents[1]


def project_folder() -> pathlib.Path:
    """The folder of the recipes that come with the project."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def project_recipes() -> dict[str, pathlib.Path]:
    """The recipes that come with the project, name -> file."""
    files = sorted(project_folder().glob("*.py"))
    return {file.stem: file for file in files if "get_config" in file.read_text()}


def find_recipe(recipe: str) -> pathlib.Path:
    """The file of a recipe.

    Args:
        recipe: a file, or the name of one of the project's, such as "stage3". "configs/stage3.py"
            is the project's too where the present folder has no such file. What has neither a
            slash nor the ending .py is always a name.

    Returns:
        The file.

    Raises:
        FileNotFoundError: there is no such recipe; the message names those of the project.
    """
    file = user_path(recipe)
    if ("/" in recipe or file.suffix == ".py") and file.is_file():
        return file
    known = project_recipes()
    name = recipe.removeprefix("configs/").removesuffix(".py")
    if name not in known:
        raise FileNotFoundError(
            f"there is no recipe {recipe!r}; use one of {', '.join(known)}, or the path of a file"
        )
    return known[name]


@contextlib.contextmanager
def configs_of(file: pathlib.Path) -> Iterator[None]:
    """Within it, `configs` is the package that the recipe in `file` imports from.

    That is the folder named configs around the file, if there is one, and then the project's. What
    bore the name before bears it again afterwards.

    Args:
        file: of a recipe.
    """
    around = pathlib.Path(os.path.abspath(file)).parents
    folders = [folder for folder in around if folder.name == "configs"][:1] + [project_folder()]
    start = next(path for folder in folders if (path := folder / "__init__.py").is_file())
    spec = importlib.util.spec_from_file_location(
        "configs", start, submodule_search_locations=list(map(str, folders))
    )
    assert spec is not None and spec.loader is not None  # it is a Python file
    package = importlib.util.module_from_spec(spec)
    before = _take_configs()
    sys.modules["configs"] = package
    try:
        spec.loader.exec_module(package)
        yield
    finally:
        _take_configs()
        sys.modules.update(before)


def _take_configs() -> dict:
    """Takes `configs` and all modules in it out of those that are imported."""
    names = [name for name in sys.modules if name.partition(".")[0] == "configs"]
    return {name: sys.modules.pop(name) for name in names}
