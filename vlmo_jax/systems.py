"""VLMo beside the systems it is compared with: `python -m vlmo_jax.systems`; see
experiments/systems.py.
"""

from vlmo_jax.experiments.systems import main

if __name__ == "__main__":
    main()
