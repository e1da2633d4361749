import pytest

from vlmo_jax.evals import protocols


def test_all_and_first_captions():
    captions = [("a", "b"), ("c",), ("d", "e", "f")]
    texts, images = protocols.select_captions("all_captions", "xyz", captions)
    assert (texts, images.tolist()) == (list("abcdef"), [0, 0, 1, 2, 2, 2])
    texts, images = protocols.select_captions("first_caption", "xyz", captions)
    assert (texts, images.tolist()) == (list("acd"), [0, 1, 2])


def test_karpathy_uses_five_captions_and_refuses_fewer():
    captions = [tuple("abcdefg")] * 1000
    ids = [str(row) for row in range(1000)]
    texts, images = protocols.select_captions("flickr30k_karpathy_1k", ids, captions)
    assert len(texts) == 5000 and texts[:6] == list("abcdea") and images[-1] == 999
    captions[7] = tuple("abcd")
    with pytest.raises(ValueError, match="image '7' has 4 captions .* needs at least 5"):
        protocols.select_captions("flickr30k_karpathy_1k", ids, captions)
