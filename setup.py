"""The packages; all else about the project stands in setup.cfg."""

from setuptools import find_packages, setup

setup(
    # The recipes lie at the top of the repository, and travel inside the package.
    packages=[*find_packages(include=["vlmo_jax*"]), "vlmo_jax.configs"],
    package_dir={"vlmo_jax.configs": "configs"},
)
