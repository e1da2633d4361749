"""What earlier versions have written, in the form of today."""

import pathlib
from typing import Any

import orbax.checkpoint as ocp

# `config.kind` of version 0.1 -> (model.kind, data.kind, task.kind).
KINDS = {
    "pairs": ("vlmo", "pairs", "pair_pretrain"),
    "texts": ("vlmo", "texts", "text_pretrain"),
    "images": ("beit", "masked_images", "image_pretrain"),
    "tokenizer": ("discrete_vae", "images", "visual_tokenizer"),
}
# Fields that version 0.1 did not have, with what it did.
EVALUATION = {"averaged": False}
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
    if "evals" in upgraded:  # whose members were named by their kind
        upgraded["evals"] = {
            name: {"kind": name, **EVALUATION, **part} for name, part in upgraded["evals"].items()
        }
    if "optimizer" in upgraded:
        upgraded["optimizer"] = {**OPTIMIZER, **upgraded["optimizer"]}
    return upgraded


def upgrade_meta(meta: dict[str, Any]) -> dict[str, Any]:
    """The meta of a checkpoint with its config as this version writes it."""
    return {**meta, "config": upgrade_config(meta["config"])} if "config" in meta else meta


def restore_without_extra(
    folder: pathlib.Path, saved: dict[str, Any], wanted: dict[str, Any]
) -> dict[str, Any]:
    """Restores the item `optimizer` of version 0.1, but not the extra state in it.

    Args:
        folder: of the checkpoint.
        saved: tree of the item, as Orbax describes it.
        wanted: tree of jax.ShapeDtypeStruct with shardings.

    Raises:
        ValueError: the item holds other moments than those wanted.
    """
    kept = {path for path in ocp.tree.to_flat_dict(saved) if path[0] != "extra"}
    # A part is read leniently: what is missing would stay abstract.
    if others := kept ^ set(ocp.tree.to_flat_dict(wanted)):
        some = ", ".join("/".join(path) for path in sorted(others)[:5])
        raise ValueError(f"checkpoint {folder} has the moments of other parameters: {some}")
    args = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    # By hand: a manager that reads an item whole does not read a part of it.
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(folder / "optimizer", args=args)
