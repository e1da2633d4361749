"""Trees of arrays that are equal to a tolerance, and runs that are."""

import jax
import numpy as np


def close(found, expected, **tolerance):
    """Holds a tree to another of the same form; says which leaf is off."""
    compare = lambda path, a, b: np.testing.assert_allclose(
        a, b, **tolerance, err_msg=jax.tree_util.keystr(path)
    )
    jax.tree_util.tree_map_with_path(compare, found, expected)


def same_run(metrics, state, expected_metrics, expected_state):
    """Holds the metrics of each step and the last state of a run to those of another."""
    close(list(metrics), list(expected_metrics), rtol=1e-5, atol=1e-5)
    close(state, expected_state, atol=1e-5)
