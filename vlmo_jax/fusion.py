"""What fusion is worth: `python -m vlmo_jax.fusion`; see experiments/fusion.py."""

from vlmo_jax.experiments.fusion import main

if __name__ == "__main__":
    main()
