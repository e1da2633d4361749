"""Where JAX may keep compiled programs from one start to the next (JAX_COMPILATION_CACHE_DIR)."""

import logging
import os

import jax
from jax.experimental.compilation_cache import compilation_cache

from vlmo_jax.commands.paths import NoHomeError, user_path

log = logging.getLogger(__name__)

_WORTH_KEEPING = 0.1  # seconds of compilation


def keep_programs() -> str | None:
    """Keeps compiled programs for the next start of a command that people wait for: in
    vlmo_jax/compiled of their cache folder (XDG_CACHE_HOME, else ~/.cache), unless
    JAX_COMPILATION_CACHE_DIR names another, or "" for none.

    Returns:
        The folder; None where none are kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        try:
            folder = user_path(caches) / "vlmo_jax" / "compiled"
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, NoHomeError):  # no home, or one that is not ours
            return None
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    disable_unsafe_cache()
    kept = jax.config.values["jax_enable_compilation_cache"]
    return jax.config.values["jax_compilation_cache_dir"] or None if kept else None


def disable_unsafe_cache() -> None:
    """Turns JAX's compilation cache off where a program that comes from it can hang.

    A program for several CPU devices that is read from the cache no longer keeps the order of its
    collectives (JAX 0.10 and 0.12): with two that do not wait for each other, one device enters
    the first, another the second, and XLA aborts after 40 seconds. One CPU device, GPUs and TPUs
    keep the cache. It looks at the devices, so processes must have joined before.
    """
    config = jax.config.values
    if not (config["jax_compilation_cache_dir"] and config["jax_enable_compilation_cache"]):
        return
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()  # it remembers its first answer
        if jax.process_index() == 0:
            log.info("Compiling without JAX's cache: it is not safe with several CPU devices.")
