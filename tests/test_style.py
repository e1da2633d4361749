"""Annotations that the linter does not ask for: every public function says what it takes and gives.

Public is what has no underscore in front, in a class that has none either; `__init__` and
`__call__` are public too.
"""

import ast

import pytest

from docs import architecture

SPOKEN = ("__init__", "__call__")  # methods with underscores that callers give arguments


def functions(node, path=""):
    """Public functions and methods in a module or class: path and node of each."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, f"{path}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and (
            not child.name.startswith("_") or child.name in SPOKEN
        ):
            yield f"{path}{child.name}", child


def unannotated(function, *, method):
    """Names of the arguments without annotations, "return" among them where there is none."""
    arguments = function.args
    given = [*arguments.posonlyargs, *arguments.args]
    static = any(getattr(d, "id", None) == "staticmethod" for d in function.decorator_list)
    given = given[1:] if method and not static else given
    given += arguments.kwonlyargs + [a for a in (arguments.vararg, arguments.kwarg) if a]
    return [a.arg for a in given if a.annotation is None] + ["return"] * (function.returns is None)


def missing(source):
    """Lines and arguments that lack annotations in the text of a module."""
    found = []
    for name, function in functions(ast.parse(source)):
        if names := unannotated(function, method="." in name):
            found.append(f"line {function.lineno}, {name}: {', '.join(names)}")
    return found


@pytest.mark.parametrize("name", architecture.modules())
def test_public_functions_are_annotated(name):
    assert not missing(architecture.modules()[name].read_text())


def test_missing_annotations_are_found():
    source = """
def whole(a: int, *rest: int, b: int = 0, **more: int) -> int: ...
def _private(a): ...
def some(a, *rest, b: int, **more: int): ...
class Public:
    def __init__(self, a) -> None: ...
    def method(self, a: int): ...
    @staticmethod
    def static(a) -> None: ...
    def _private(self, a): ...
class _Private:
    def method(self, a): ...
"""
    assert missing(source) == [
        "line 4, some: a, rest, return",
        "line 6, Public.__init__: a",
        "line 7, Public.method: return",
        "line 9, Public.static: a",
    ]
