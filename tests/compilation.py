"""Lighter compilation, for tests: they compile thousands of programs, most of them tiny, and again
those of another run of the same recipe. None of it changes a program.
"""

import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src import cache_key, compiler
from jax._src.interpreters import mlir

_programs: dict[str, Any] = {}
_context = threading.local()


def share_compilation() -> None:
    """From here on, programs that are equal are one executable, and all that a thread compiles
    shares a context of MLIR, until `forget_programs`.

    With a context of its own, as JAX 0.10 has it, a tiny program takes a fifth longer, and a
    megabyte that stays as long as the program does. JAX's own cache of programs, on disk, is no
    help: one for several CPU devices that comes from there may hang
    (parallel/compilation_cache.py).
    """
    compiler.backend_compile_and_load = _remembering(compiler.backend_compile_and_load)
    mlir.make_ir_context = _sharing(mlir.make_ir_context)


def _remembering(compile_program: Callable) -> Callable:
    def compile_or_remember(backend, module, devices, options, host_callbacks):
        if host_callbacks:  # functions of Python, which the key does not hold
            return compile_program(backend, module, devices, options, host_callbacks)
        key = cache_key.get(module, np.array(list(devices)), options, backend)
        if key not in _programs:
            _programs[key] = compile_program(backend, module, devices, options, host_callbacks)
        return _programs[key]

    return compile_or_remember


def _sharing(make_context: Callable) -> Callable:
    def shared_context():
        if not hasattr(_context, "made"):
            _context.made = make_context()
        return _context.made

    return shared_context


def forget_programs() -> None:
    """Lets go of all compiled programs: those of many files of tests take gigabytes."""
    _programs.clear()
    _context.__dict__.clear()
    jax.clear_caches()
