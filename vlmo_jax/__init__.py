"""VLMo and its pre-training on images and text, in JAX.

    import vlmo_jax

    model = vlmo_jax.load("runs/stage3")
    image, text = model.encode_image(["a.jpg"]), model.encode_text(["a red heart"])
    similarities = image @ text.T

What a model can be asked stands in `vlmo_jax.Model`, and in docs/INFERENCE.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmo_jax.inference.heads import UnfitModelError
    from vlmo_jax.inference.inputs import BrokenInputError
    from vlmo_jax.inference.loading import load
    from vlmo_jax.inference.model import Model
    from vlmo_jax.inference.parts import Tokens

__all__ = ["BrokenInputError", "Model", "Tokens", "UnfitModelError", "load"]

# Where the public names stand. Their modules, and JAX with them, are imported when the first of
# them is asked for: commands that need none of it start faster, and may set up JAX before.
_MODULES = {
    "BrokenInputError": "vlmo_jax.inference.inputs",
    "Model": "vlmo_jax.inference.model",
    "Tokens": "vlmo_jax.inference.parts",
    "UnfitModelError": "vlmo_jax.inference.heads",
    "load": "vlmo_jax.inference.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
