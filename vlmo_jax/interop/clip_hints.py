"""What files beside the tensors of a CLIP say of it."""

import json
import pathlib
from typing import Any

from vlmo_jax.interop.clip import HEAD_WIDTH
from vlmo_jax.models.clip import ACTIVATIONS


def hints_beside(source: pathlib.Path) -> dict[str, Any]:
    """What the files of HuggingFace and open_clip beside tensors say of a CLIP: `activation` and
    `num_heads`; {} where there are none.

    Args:
        source: a file, or a folder.

    Raises:
        ValueError: a file cannot be read, or speaks of towers that are not known here.
    """
    folder = source if source.is_dir() else source.parent
    path = folder / "open_clip_config.json"
    if path.is_file():
        told = _read_json(path).get("model_cfg", {})
        vision, text = told["vision_cfg"], told["text_cfg"]
        heads = vision["width"] // vision.get("head_width", HEAD_WIDTH), text.get("heads", 8)
        activation = "quick_gelu" if told.get("quick_gelu") else "gelu"
        return {"activation": activation, "num_heads": heads}
    path = folder / "config.json"
    told = _read_json(path) if path.is_file() else {}
    if told.get("model_type") != "clip":
        return {}
    towers = [told.get(part) or {} for part in ("vision_config", "text_config")]
    activations = {tower.get("hidden_act", "quick_gelu") for tower in towers}
    if len(activations) != 1 or not activations <= set(ACTIVATIONS):
        raise ValueError(
            f"{path} speaks of the activation {' and '.join(sorted(activations))}; known are"
            f" {', '.join(ACTIVATIONS)}, one for both towers"
        )
    # Where they are left out, they are those of the library's own defaults.
    heads = tuple(
        tower.get("num_attention_heads", usual)
        for tower, usual in zip(towers, (12, 8), strict=True)
    )
    return {"activation": activations.pop(), "num_heads": heads}


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds no JSON object")
    return told
