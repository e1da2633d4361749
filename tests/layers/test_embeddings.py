import jax.numpy as jnp
import numpy as np

from vlmo_jax.layers import embeddings


def test_patches_are_row_major_with_the_channel_last():
    image = np.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    patches = np.asarray(embeddings.split_patches(jnp.asarray(image), 2))
    assert patches.shape == (2, 9, 12)
    for row in range(3):
        for column in range(3):
            expected = image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(2, -1)
            np.testing.assert_array_equal(patches[:, 3 * row + column], expected)


def test_normalize_image():
    image = np.array([[[0, 127, 255]]], np.uint8)
    found = embeddings.normalize_image(image, (0.5, 0.4, 0.3), (0.5, 0.25, 0.1))
    np.testing.assert_allclose(found, [[[-1.0, (127 / 255 - 0.4) / 0.25, 7.0]]], rtol=1e-6)
    assert found.dtype == jnp.float32
