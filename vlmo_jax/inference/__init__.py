"""A trained model that is asked: loaded from a folder, it encodes, matches, answers and classifies.

`import vlmo_jax; vlmo_jax.load(DIR)` is the way in; docs/INFERENCE.md tells the rest.
"""
