"""Whether images and texts belong together: `python -m vlmo_jax.match`."""

from vlmo_jax.commands.console import log_beside_results
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.inference.commands.match import main

if __name__ == "__main__":
    with told_in_one_line():
        log_beside_results()
        main()
