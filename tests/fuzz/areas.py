"""The kinds of odd input: name -> function of a numpy Generator that draws one Case."""

from collections.abc import Callable

import numpy as np

from tests.fuzz import captions, checkpoints, configs, downloads, paths, tensor_files
from tests.fuzz.case import Case

AREAS: dict[str, Callable[[np.random.Generator], Case]] = {
    "captions": captions.draw,
    "checkpoints": checkpoints.draw,
    "configs": configs.draw,
    "downloads": downloads.draw,
    "paths": paths.draw,
    "tensor_files": tensor_files.draw,
}
