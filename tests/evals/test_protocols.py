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


def test_coco_has_all_captions_or_the_first_five():
    captions = [tuple("abcdef")] * 10 + [tuple("abcde")] * 4990
    ids = [str(row) for row in range(5000)]
    for name, count in (
        ("coco_karpathy_5k_all", 25_010),
        ("coco_karpathy_5k", 25_000),
        ("coco_karpathy_1k", 25_000),
    ):
        assert len(protocols.select_captions(name, ids, captions)[0]) == count
    with pytest.raises(ValueError, match="is about 25010 captions and this split has 25000; build"):
        protocols.select_captions("coco_karpathy_5k_all", ids, [tuple("abcde")] * 5000)
