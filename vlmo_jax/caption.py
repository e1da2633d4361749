"""Captions of images: `python -m vlmo_jax.caption`."""

from vlmo_jax.commands.console import log_beside_results
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.inference.commands.caption import main

if __name__ == "__main__":
    with told_in_one_line():
        log_beside_results()
        main()
