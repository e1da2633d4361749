"""Sizes of a model, read off the shapes of its tensors."""

import numpy as np
import pytest

from vlmo_jax.interop.vlmo_sizes import find_sizes


@pytest.mark.parametrize("sizes", [(224, 40, 196), (384, 40, 196), (480, 40, 196), (224, 196, 196)])
def test_published_sizes_are_found(sizes):
    image_size, length, positions = sizes
    rows = (2 * image_size // 16 - 1) ** 2 + 5 + 2 * positions
    shape = lambda *shape: np.broadcast_to(np.float32(0), shape)
    tensors = {
        "transformer.patch_embed.proj.weight": shape(768, 3, 16, 16),
        "token_type_embeddings.weight": shape(2, 768),
        "text_embeddings.word_embeddings.weight": shape(30522, 768),
        "text_embeddings.position_embeddings.weight": shape(length, 768),
        "relative_position_bias_table": shape(rows, 144),
        "transformer.blocks.0.gamma_1": shape(768),
        **{
            f"transformer.blocks.{layer}.mlp_imag.fc1.weight": shape(3072, 768)
            for layer in range(12)
        },
    }
    found = find_sizes(tensors)
    assert (found["image_size"], found["text_length"], found["text_positions"]) == sizes
    assert (found["num_heads"], found["num_upper"], found["vocab_size"], found["experts"]) == (
        12,
        2,
        30522,
        ("image", "text"),
    )
    plus = {
        **tensors,
        "transformer.patch_embed.proj.weight": shape(544, 3, 16, 16),
        "transformer.pos_embed": shape(1, 577, 544),
    }
    del plus["relative_position_bias_table"]
    assert (find_sizes(plus)["num_heads"], find_sizes(plus)["image_size"]) == (16, 384)
