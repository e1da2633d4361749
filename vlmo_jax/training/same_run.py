"""Whether a run may go on from a checkpoint: by what its config, data, tokenizer and frozen models
are, not by how their paths are spelled.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmo_jax.checkpoints.warm_start.numbered import HEADS_OF_LISTS
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe

# Fields that may change between a run and its resumption; any other change makes it another run.
RESUMABLE = (
    "mode",
    "init_from",
    "init_rules",
    "init_fresh",
    "mesh",
    "checkpoint",
    "log_every",
    "compilation_cache",
    "profile",
    "evals",
    "accumulation",
)
RESUMABLE_FIELDS = {
    "data": ("num_workers", "num_threads", "prefetch", "max_broken_fraction"),
    "model": ("attention",),
    "task": ("contrast_chunk",),
}

Change = tuple[str, Any, Any]  # a field, its old value, its new one


def check_same_run(recipe: Recipe, meta: Mapping[str, Any], directory: Path) -> None:
    """Refuses to go on with what is another run.

    Args:
        recipe: of the run, open.
        meta: of the checkpoint. Where it does not say what its data are, which it does since
            version 0.2, their path and split decide.
        directory: of the checkpoints, for messages.

    Raises:
        ConfigError: it is another; names each field that differs, or whose contents do.
    """
    changes = list(_changed_contents(recipe, meta))
    if changes:
        raise ConfigError(
            f"{directory} holds a run with other contents of {'; of '.join(changes)}; give what it"
            " was trained with, or use another --workdir"
        )
    known_by_content = [field for field, name in _PATHS.items() if meta.get(name)]
    known_by_content += list(meta.get("frozen", {}))
    changed = _changed_fields(meta["config"], json.loads(recipe.config.to_json()))
    differences = [change for change in changed if change[0] not in known_by_content]
    if differences:
        listed = ", ".join(f"config.{key} was {old} and is {new}" for key, old, new in differences)
        raise ConfigError(
            f"{directory} holds a run with another config: {listed}; use another --workdir, or give"
            " the old values to go on"
        )


# Field that says where something lies -> what a checkpoint's meta calls its contents.
_PATHS = {"data.source": "data", "data.split": "data", "tokenizer": "tokenizer"}


def _changed_contents(recipe: Recipe, meta: Mapping[str, Any]) -> Iterator[str]:
    config = recipe.config
    data, data_now = meta.get("data"), recipe.data_identity
    if data and data != data_now:
        differing = [name for name in data if data[name] != data_now.get(name)]
        what = ", ".join(f"{name} {data[name]}, now {data_now.get(name)}" for name in differing)
        yield f"config.data.source={config.data.source!r}, split {config.data.split!r} ({what})"
    tokenizer, tokenizer_now = meta.get("tokenizer"), recipe.tokenizer_meta()
    if tokenizer and tokenizer_now and tokenizer["sha256"] != tokenizer_now["sha256"]:
        yield (
            f"config.tokenizer={config.tokenizer!r} (SHA-256 {tokenizer['sha256'][:12]}..., now"
            f" {tokenizer_now['sha256'][:12]}...)"
        )
    lists, lists_now = meta.get("preprocessing", {}), recipe.data.preprocessing()
    for name, head in HEADS_OF_LISTS.items():
        old, new = lists.get(name), lists_now.get(name)
        if old and old != new:
            yield f"{head.field} ({old}, now {new}), by whose ids it answers"
    frozen_now = recipe.frozen_identity
    for name, identity in meta.get("frozen", {}).items():
        if frozen_now.get(name) != identity:
            yield f"config.{name} ({identity}, now {frozen_now.get(name)})"


def _changed_fields(saved: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[Change]:
    for key in sorted(set(now) | set(saved)):
        old, new = saved.get(key), now.get(key)
        if key in RESUMABLE or old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            skipped = RESUMABLE_FIELDS.get(key, ())
            for field in sorted(set(new) | set(old)):
                if field not in skipped and _differ(old, new, field):
                    yield f"{key}.{field}", old.get(field), new.get(field)
        else:
            yield key, old, new


def _differ(old: Mapping[str, Any], new: Mapping[str, Any], field: str) -> bool:
    """Whether a field changed; one that there was not yet and that is off did not."""
    if field not in old and not new[field]:
        return False
    return old.get(field) != new.get(field)
