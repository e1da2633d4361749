"""A folder of pictures, and where its index goes."""

import pytest

from tests.search.worlds import age, draw


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    for number in range(5):
        age(draw(folder / f"{'ab'[number % 2]}/{number}.png", number))
    return folder


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index"
