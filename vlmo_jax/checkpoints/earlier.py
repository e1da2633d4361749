"""What earlier versions have written, in the form of today."""

from typing import Any

# `config.kind` of version 0.1 -> (model.kind, data.kind, task.kind).
KINDS = {
    "pairs": ("vlmo", "pairs", "pair_pretrain"),
    "texts": ("vlmo", "texts", "text_pretrain"),
    "images": ("beit", "masked_images", "image_pretrain"),
    "tokenizer": ("discrete_vae", "images", "visual_tokenizer"),
}
# Fields of the optimizer that version 0.1 did not have, with what it did.
OPTIMIZER = {"layer_decay": 1.0, "ema_decay": 0.0}


def upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """A config as this version writes it; one of this version comes back as it is.

    Args:
        config: plain values of a checkpoint's meta or of a config.json, whole or in part.
    """
    if "kind" not in config:
        return config
    upgraded = {name: value for name, value in config.items() if name != "kind"}
    for part, kind in zip(("model", "data", "task"), KINDS[config["kind"]], strict=True):
        upgraded[part] = {"kind": kind, **upgraded.get(part, {})}
    if "optimizer" in upgraded:
        upgraded["optimizer"] = {**OPTIMIZER, **upgraded["optimizer"]}
    return upgraded
