"""All stages one after another: `python -m vlmo_jax.chain`; see experiments/chain.py."""

from vlmo_jax.experiments.chain import main

if __name__ == "__main__":
    main()
