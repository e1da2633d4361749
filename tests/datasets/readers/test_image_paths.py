import unicodedata

import pytest

from vlmo_jax.datasets.readers.image_paths import ImageFinder

FILES = ["a.jpg", "sub/b.jpg", "sub/c.jpg", "other/c.jpg", "caf\u00e9.png", "x 1.JPG"]


@pytest.mark.parametrize(
    "name, path, how",
    [
        ("a.jpg", "a.jpg", ""),
        ("./sub//b.jpg", "sub/b.jpg", ""),
        ("sub\\b.jpg", "sub/b.jpg", ""),
        ("sub/../a.jpg", "a.jpg", ""),
        ("photos/sub/b.jpg", "sub/b.jpg", ""),
        ("a.jpg#3", "a.jpg", ""),
        ("x%201.JPG", "x 1.JPG", ""),
        ("sub/b", "sub/b.jpg", "letters"),
        ("SUB/B.jpg", "sub/b.jpg", "letters"),
        (unicodedata.normalize("NFD", "caf\u00e9.png"), "caf\u00e9.png", "letters"),
        ("x\u00a01.jpg", "x 1.JPG", "letters"),
        ("/data/sub/c.jpg", "sub/c.jpg", "folder"),
        ("C:\\data\\other\\c.jpg", "other/c.jpg", "folder"),
        ("b.jpg", "sub/b.jpg", "name"),
        ("elsewhere/b.jpg", "sub/b.jpg", "name"),
        ("../../a.jpg", "a.jpg", "name"),
    ],
)
def test_names_lead_to_the_one_file_they_mean(tmp_path, name, path, how):
    finder = ImageFinder(tmp_path / "photos", FILES)
    assert finder.find(name)[:2] == (path, how)
    absolute = str(tmp_path / "photos" / path)
    assert finder.find(absolute)[:2] == (path, "")


@pytest.mark.parametrize(
    "name, problem",
    [
        ("c.jpg", "several files answer to it: sub/c.jpg, other/c.jpg"),
        ("third/c.jpg", "several files"),
        ("z.png", "no such file"),
        (
            "\u0441af\u00e9.png",
            "the nearest is 'caf\u00e9.png', which has U\\+0063 LATIN SMALL LETTER C for U\\+0441",
        ),
    ],
)
def test_names_that_mean_no_single_file_say_why(tmp_path, name, problem):
    match = ImageFinder(tmp_path, FILES).find(name)
    assert match.path is None
    with pytest.raises(ValueError, match=problem):
        raise ValueError(match.problem)
