"""Pickles, read without calling anything.

A pickle is a program. Here it is followed an instruction at a time; where it would call something,
a note of what it would call takes the place of the result. So no pickle runs code, whatever it
says; one that would call anything beside the few names that files of tensors need is refused.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import IO, Any, BinaryIO, NamedTuple, cast

MAX_BYTES = 2**26  # of a pickle or a text in it; those of checkpoints take some hundred thousand
MAX_INSTRUCTIONS = 4_000_000


class BrokenPickleError(ValueError):
    """These bytes are no pickle, or one that makes no sense."""


class CodeInPickleError(ValueError):
    """A pickle asks for something that it should not need.

    Attributes:
        name: of what it asks for, module and name.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclasses.dataclass(frozen=True, eq=False)
class Global:
    """Something that a pickle names, such as `torch.FloatStorage`; nothing is imported."""

    name: str


@dataclasses.dataclass(eq=False)
class Call:
    """What a pickle would have called, with which arguments, and the state that it gives to what
    came of it.
    """

    name: str
    args: tuple
    state: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Persistent:
    """Something that lies outside of the pickle, by the description that stands in it."""

    description: Any


class Pickled(NamedTuple):
    """What a pickle holds.

    Attributes:
        content: plain values and containers, with Global, Call and Persistent in them.
        persistent: all that lies outside of it.
    """

    content: Any
    persistent: list[Persistent]


class _Mark:
    """Where the arguments of an instruction begin on the stack."""


class _Bounded:
    """A file for pickletools that never gives more than a pickle of tensors can need."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell
        self._last = file.tell() + MAX_BYTES

    def read(self, length: int) -> bytes:
        if length > MAX_BYTES or self._file.tell() > self._last:
            raise BrokenPickleError(f"more than {MAX_BYTES:,} bytes of pickle")
        return self._file.read(length)

    def readline(self) -> bytes:
        return self._file.readline(MAX_BYTES)


def read_pickle(file: BinaryIO, allowed: Callable[[str], bool]) -> Pickled:
    """Reads one pickle from where a file stands to its end there.

    Args:
        file: opened to read bytes.
        allowed: function of a name such as "torch._utils._rebuild_tensor_v2", True where a pickle
            may name it.

    Raises:
        CodeInPickleError: it names something that is not allowed.
        BrokenPickleError: it is no pickle.
    """
    machine, bounded = _Machine(allowed), cast(IO[bytes], _Bounded(file))
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(bounded)):
            if count > MAX_INSTRUCTIONS:
                raise BrokenPickleError(
                    f"more than {MAX_INSTRUCTIONS:,} instructions in its pickle"
                )
            machine.follow(opcode.name, argument)
        return Pickled(machine.pop(), machine.persistent)
    except CodeInPickleError:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise BrokenPickleError(f"its pickle makes no sense: {error}") from error


# Instructions that put their own argument on the stack.
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "FROZENSET": frozenset,
    "DICT": lambda items: dict(zip(items[::2], items[1::2], strict=True)),
}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME", "STOP"}


class _Machine:
    """The stack and the memory of a pickle that is being followed."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self._allowed = allowed
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.persistent: list[Persistent] = []

    def follow(self, name: str, argument: Any) -> None:
        """Does what an instruction says, by the name that pickletools gives it."""
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop_many(_TUPLES[name])))
        elif name in _FROM_MARK:
            self._stack.append(_FROM_MARK[name](self._pop_to_mark()))
        elif name in _PUT:
            self._memo[argument] = self._top()
        elif name in _GET:
            self._stack.append(self._memo[argument])
        elif name not in _IGNORED:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise BrokenPickleError(f"the instruction {name}")
            method(argument)

    def pop(self) -> Any:
        """Takes what lies on top of the stack."""
        self._top()
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            raise BrokenPickleError("something is taken from an empty stack")
        return self._stack[-1]

    def _pop_many(self, number: int) -> list[Any]:
        return [self.pop() for _ in range(number)][::-1]

    def _pop_to_mark(self) -> list[Any]:
        items: list[Any] = []
        while True:
            if not self._stack:
                raise BrokenPickleError("there is no mark")
            item = self._stack.pop()
            if isinstance(item, _Mark):
                return items[::-1]
            items.append(item)

    def _mark(self, _: None) -> None:
        self._stack.append(_Mark())

    def _pop_mark(self, _: None) -> None:
        self._pop_to_mark()

    def _pop(self, _: None) -> None:
        if not self._stack:
            raise BrokenPickleError("something is taken from an empty stack")
        self._stack.pop()

    def _dup(self, _: None) -> None:
        self._stack.append(self._top())

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._top()

    def _append(self, _: None) -> None:
        item = self.pop()
        self._extend(self._top(), [item])

    def _appends(self, _: None) -> None:
        items = self._pop_to_mark()
        self._extend(self._top(), items)

    def _additems(self, _: None) -> None:
        items = self._pop_to_mark()
        self._extend(self._top(), items)

    @staticmethod
    def _extend(container: Any, items: list[Any]) -> None:
        if isinstance(container, list):
            container.extend(items)
        elif isinstance(container, set):
            container.update(items)
        elif not isinstance(container, Call):
            raise BrokenPickleError(f"values are added to a {type(container).__name__}")

    def _setitem(self, _: None) -> None:
        key, value = self._pop_many(2)
        self._update(self._top(), [key, value])

    def _setitems(self, _: None) -> None:
        items = self._pop_to_mark()
        self._update(self._top(), items)

    @staticmethod
    def _update(container: Any, items: list[Any]) -> None:
        if isinstance(container, dict):
            container.update(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(container, Call):
            raise BrokenPickleError(f"keys are set in a {type(container).__name__}")

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._named(module, name))

    def _stack_global(self, _: None) -> None:
        module, name = self._pop_many(2)
        self._stack.append(self._named(module, name))

    def _named(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str):
            raise BrokenPickleError("a global without a name")
        # Python 2's name of a module of today.
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if not self._allowed(full):
            raise CodeInPickleError(full)
        return Global(full)

    def _reduce(self, _: None) -> None:
        function, args = self._pop_many(2)
        self._call(function, args)

    def _newobj(self, _: None) -> None:
        kind, args = self._pop_many(2)
        self._call(kind, args)

    def _newobj_ex(self, _: None) -> None:
        kind, args, _kwargs = self._pop_many(3)
        self._call(kind, args)

    def _obj(self, _: None) -> None:
        kind, *args = self._pop_to_mark()
        self._call(kind, tuple(args))

    def _inst(self, argument: str) -> None:
        args = self._pop_to_mark()
        module, _, name = argument.partition(" ")
        self._call(self._named(module, name), tuple(args))

    def _call(self, function: Any, args: Any) -> None:
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise BrokenPickleError("a call of what is no function")
        if function.name == "collections.OrderedDict":
            pairs = args[0] if args else []
            self._stack.append(dict(pairs))
        else:
            self._stack.append(Call(function.name, args))

    def _build(self, _: None) -> None:
        state, top = self.pop(), self._top()
        if isinstance(top, Call):
            top.state = state

    def _binpersid(self, _: None) -> None:
        self.persistent.append(Persistent(self.pop()))
        self._stack.append(self.persistent[-1])
