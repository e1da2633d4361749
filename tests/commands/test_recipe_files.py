"""Recipes are found from every folder, and import the right `configs`, installed or not."""

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
from vlmo_jax.commands import recipe_files
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.main import default_workdir

OWN = """
from configs import common, stage3

def get_config(arg="tiny"):
    config = stage3.get_config(arg)
    config.seed = len(common.SIZES)
    return config
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of no recipes, where each test runs."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "recipe, image_size",
    [
        ("stage3", 64),
        ("stage3:base,384", 384),
        ("configs/stage3.py:base", 224),
        (f"{ROOT}/configs/stage3.py:base,384", 384),
        (os.path.relpath(ROOT / "configs" / "stage3.py"), 64),
    ],
)
def test_the_projects_recipes_are_found_from_any_folder(recipe, image_size):
    assert read_config(recipe, {}).model.image_size == image_size


def test_a_file_wins_over_a_name_only_as_a_path(elsewhere):
    own = "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict(dict(mode=1))"
    write(elsewhere / "stage3", own)
    write(elsewhere / "stage1" / "README", "")
    write(elsewhere / "configs" / "stage3.py", own)
    assert read_config("stage3", {}).mode == "train"
    assert read_config("stage1", {}).mode == "train"
    assert read_config("./stage3", {}).mode == 1
    assert read_config("configs/stage3.py", {}).mode == 1


@pytest.mark.parametrize("recipe", ["stage4", "common", "/nowhere/stage3.py", "configs/stage4.py"])
def test_a_recipe_that_is_not_there_names_those_that_are(recipe):
    with pytest.raises(ValueError) as refused:
        read_config(f"{recipe}:base", {"steps": 3})
    message = str(refused.value)
    given = f"--config={recipe}:base --config.steps=3: "
    assert message.startswith(f"{given}there is no recipe '{recipe}'; use one of ")
    assert "\n" not in message
    for name in ("stage1", "stage2", "stage3"):
        assert f"{name}, " in message
    assert "common, " not in message and "__init__" not in message


@pytest.mark.parametrize("folder", ["mine", "configs", "configs/of/mine"])
def test_an_own_recipe_imports_the_projects(elsewhere, folder):
    recipe = write(elsewhere / folder / "own.py", OWN)
    from configs import common

    for name in (recipe, os.path.relpath(recipe)):
        assert read_config(f"{name}:base", {}).seed == len(common.SIZES)


@pytest.mark.parametrize("package", [None, "WIDTH = 3\n"])
def test_what_lies_beside_an_own_recipe_in_configs_is_meant(elsewhere, package):
    own = elsewhere / "configs"
    write(own / "common.py", "MODE = 'own'\ndef get(config):\n    return config\n")
    if package:
        write(own / "__init__.py", package)
    recipe = write(
        own / "own.py",
        "import configs\nfrom configs import common\nfrom ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    fields = dict(mode=common.MODE, seed=getattr(configs, 'WIDTH', 0))\n"
        "    return common.get(ConfigDict(fields))\n",
    )
    for name in (recipe, "configs/own.py"):
        config = read_config(str(name), {})
        assert (config.mode, config.seed) == ("own", 3 if package else 0)


def test_modules_named_configs_are_left_as_they_were(elsewhere):
    import configs
    from configs import common

    recipe = write(elsewhere / "own.py", OWN)
    before = {name: sys.modules[name] for name in sys.modules if name.startswith("configs")}
    read_config(str(recipe), {})
    with pytest.raises(ZeroDivisionError), recipe_files.configs_of(recipe):
        from configs import common as inside

        assert inside is not common
        raise ZeroDivisionError
    assert before == {name: sys.modules[name] for name in sys.modules if name.startswith("configs")}
    assert sys.modules["configs"] is configs and sys.modules["configs.common"] is common


def test_work_folders_are_named_after_recipes():
    for recipe in ("configs/stage3.py:base,384", "/a/stage3.py:base,384", "stage3:base,384"):
        assert str(default_workdir(recipe)) == "runs/stage3_base_384"
    assert str(default_workdir("stage3")) == "runs/stage3"


def test_a_built_package_has_its_recipes_and_data(elsewhere, tmp_path):
    built = tmp_path / "built"
    build = [sys.executable, "setup.py", "--quiet", "build_py", f"--build-lib={built}"]
    subprocess.run(build, cwd=ROOT, check=True)
    assert [path.name for path in built.iterdir()] == ["vlmo_jax"]
    for source in (ROOT / "configs").glob("*.py"):
        assert (built / "vlmo_jax" / "configs" / source.name).read_text() == source.read_text()
    assert {path.relative_to(ROOT) for path in (ROOT / "vlmo_jax").rglob("*.py")} <= {
        path.relative_to(built) for path in built.rglob("*.py")
    }
    write(elsewhere / "own.py", OWN)
    code = """
import sys
from vlmo_jax.commands.command_line import read_config
print(read_config("stage3:base,384", {}).model.image_size, read_config("./own.py", {}).seed)
print("configs" in sys.modules, sys.modules["vlmo_jax"].__path__[0])
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(built)},
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines() == ["384 4", f"False {built / 'vlmo_jax'}"], run.stderr
