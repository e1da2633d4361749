"""The model of an index, for its commands."""

import os

from vlmo_jax.checkpoints.saved_params import NoCheckpointError
from vlmo_jax.inference.loading import load
from vlmo_jax.inference.model import Model
from vlmo_jax.parallel.compilation_cache import keep_programs
from vlmo_jax.search.about import About


def load_model(
    given: str | os.PathLike | None, about: About | None, tokenizer: str | None = None
) -> Model:
    """Loads the model that is given, or that an index remembers.

    Args:
        given: by the command line, or None.
        about: of the index, None where there is none yet; then a model must be given.
        tokenizer: its file, where the model carries none.

    Raises:
        NoCheckpointError: it is not there.
    """
    keep_programs()
    if given is None and about is None:
        raise NoCheckpointError(
            "a new index needs a model: give its folder, --model=DIR, or --model=demo for the small"
            " one that comes with the package and knows drawings alone"
        )
    folder = about.model if given is None and about else given
    assert folder is not None
    try:
        return load(folder, tokenizer=tokenizer, show_progress=False)
    except (NoCheckpointError, FileNotFoundError) as error:
        if given is not None:
            raise
        raise NoCheckpointError(
            f"the model of the index, {folder}, is not there any more ({error}); give the folder"
            " that it is in now: --model=DIR"
        ) from error
