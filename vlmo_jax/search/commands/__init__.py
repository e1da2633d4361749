"""The commands of `python -m vlmo_jax.search`, a file each."""
