"""What a start is worth: `python -m vlmo_jax.compare`; see experiments/compare.py."""

from vlmo_jax.experiments.compare import main

if __name__ == "__main__":
    main()
