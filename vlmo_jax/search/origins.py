"""The origin of vectors, of a model that is loaded."""

import os

from vlmo_jax.commands.paths import user_path
from vlmo_jax.inference.model import Model
from vlmo_jax.search.about import Origin


def origin_of(model: Model, folder: str | os.PathLike, known: Origin | None = None) -> Origin:
    """What vectors of a model come from.

    Args:
        model: with a dual encoder.
        folder: that it was loaded from.
        known: an origin that may be the same; then nothing is traced to learn the dimension.

    Raises:
        UnfitModelError: it has no dual encoder.
    """
    same = known is not None and known.fingerprint == model.fingerprint
    return Origin(
        model=str(user_path(folder).absolute()),
        checkpoint="/".join(model.name.parts[-3:]),
        fingerprint=model.fingerprint,
        preprocessing=model.preprocessing,
        dimension=known.dimension if known and same else model.encode_text([]).shape[1],
    )
