"""The first things of a run: its processes agree, its config is checked, its data are opened."""

import importlib.metadata
import json
from typing import Any

import jax
from ml_collections import ConfigDict

from vlmo_jax.parallel.agreement import agree, together
from vlmo_jax.parallel.memory import device_bytes
from vlmo_jax.recipes import Recipe

PACKAGES = ("vlmo-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def open_recipe(config: ConfigDict) -> Recipe:
    """Checks a config and opens its data; all processes of a job come here.

    Args:
        config: of a recipe.

    Returns:
        The open recipe.

    Raises:
        ConfigError: the config cannot run.
        DisagreementError: the processes were started with other configs, versions or data.
    """
    versions = {f"the version of {name}": found for name, found in package_versions().items()}
    agree({**_flatten("config", json.loads(config.to_json())), **versions})
    with together("run this config"):
        recipe = Recipe(config)
        recipe.check(jax.device_count(), device_bytes())
        recipe.open()
    agree(_flatten("the content of config", _contents(recipe)))
    return recipe


def _contents(recipe: Recipe) -> dict[str, Any]:
    tokenizer = recipe.tokenizer_meta()
    contents = {"data.source": recipe.data_identity, **recipe.frozen_identity}
    return {**contents, "tokenizer": tokenizer and tokenizer["sha256"]}


def package_versions() -> dict[str, str]:
    """The versions of what a run's numbers depend on, "none" where it is not installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def _flatten(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    parts = (_flatten(f"{name}.{key}", part) for key, part in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}
