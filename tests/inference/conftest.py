"""The models that all tests ask: made and loaded once."""

import pytest

import vlmo_jax
from tests.inference.models import save_caption, save_stage3, save_vqa


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A work folder of stage 3."""
    return save_stage3(tmp_path_factory.mktemp("stage3"))


@pytest.fixture(scope="session")
def vqa_folder(tmp_path_factory):
    """A work folder of fine-tuning on questions."""
    return save_vqa(tmp_path_factory.mktemp("vqa"))


@pytest.fixture(scope="session")
def caption_folder(tmp_path_factory):
    """A work folder of fine-tuning on captions."""
    return save_caption(tmp_path_factory.mktemp("caption"))


@pytest.fixture(scope="session")
def model(folder):
    return vlmo_jax.load(folder)


@pytest.fixture(scope="session")
def answering(vqa_folder):
    return vlmo_jax.load(vqa_folder)
