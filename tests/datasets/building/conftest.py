"""A download in the small format."""

import pytest

from tests.datasets.building.small_builds import write_rows


@pytest.fixture
def download(tmp_path, encoded_image):
    """Twenty pictures for training, five for a test; one has two captions."""
    folder = tmp_path / "download"
    folder.mkdir()
    rows = []
    for i in range(25):
        (folder / f"{i}.png").write_bytes(encoded_image(i))
        texts = [f"picture {i}", "again"][: 1 + (i == 3)]
        rows.append({"split": "test" if i % 5 == 4 else "train", "image": f"{i}.png"})
        rows[-1]["texts"] = texts
    write_rows(folder, rows)
    return folder
