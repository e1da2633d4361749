"""Reads long lists in JSON files entry by entry, so that a file of gigabytes needs no more memory
than its longest entry.
"""

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, TextIO

from vlmo_jax.datasets.contents import describe_contents
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.plain_text import whole

CHUNK = 2**20  # characters read at once
_HEAD = 4096  # tells what a file is
_BLANK = " \t\r\n"
_LITERAL = 16  # no token but a string is longer; one that was cut ends so near to the end
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_WORDS = {int: "whole number", str: "name", list: "list"}


class Item(NamedTuple):
    """One entry of a list.

    Attributes:
        name: of the list, "" where the file is one.
        where: it stands, for messages.
        value: what it is.
    """

    name: str
    where: str
    value: Any


def read_items(path: pathlib.Path, *names: str) -> Iterator[Item]:
    """Yields the entries of lists in a JSON file, in the order of the file.

    Args:
        path: of the file, UTF-8.
        names: keys of the lists in the object that the file holds; none where the file is a list
            itself. Other keys are passed over.

    Raises:
        MissingDataError: there is no such file.
        DataError: it is no JSON, or has no such list.
    """
    with _open(path) as scanner:
        yield from scanner.object_items(names) if names else scanner.list_items("")
        scanner.finish()


def read_member(path: pathlib.Path, name: str) -> Any:
    """A member of the object that a JSON file holds, None where it has none of that name; lists
    before it are passed over entry by entry.

    Args:
        path: of the file, UTF-8.
        name: of the member.

    Raises:
        MissingDataError, DataError: as `read_items`.
    """
    with _open(path) as scanner:
        return scanner.member(name)


def get(item: Any, keys: str | Sequence[str], kind: type, where: str) -> Any:
    """A member of an object in JSON, of the kind that it must be.

    Args:
        item: what should be the object.
        keys: what the member is called, the first that is there.
        kind: int (a text of digits will do), str (as `is_name`) or list.
        where: the object stands, for messages.

    Raises:
        DataError: it is no object, has no such key, or has something else there.
    """
    keys = (keys,) if isinstance(keys, str) else keys
    if not isinstance(item, dict):
        raise DataError(f"{where} is {_short(item)}, where an object must be")
    key = next((key for key in keys if key in item), None)
    if key is None:
        raise DataError(
            f"{where} has no key {' or '.join(keys)}, only {_short(', '.join(map(str, item)))}; is"
            " it another file, or another version of it?"
        )
    value = item[key]
    if kind is int and isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    wrong = not isinstance(value, kind) or isinstance(value, bool)
    if wrong or (kind is str and not is_name(value)):
        raise DataError(f"{where} has {key}={_short(value)}, which is no {_WORDS[kind]}")
    return whole(value, where) if kind is str else value


def is_name(value: Any) -> bool:
    """Whether a file could be called so: a text that is not blank and has no control characters."""
    return isinstance(value, str) and bool(value.strip()) and not _CONTROL.search(value)


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator["_Scanner"]:
    if not path.is_file():
        raise MissingDataError(f"{path}: there is no such file")
    with open(path, encoding="utf-8-sig", newline="") as file:
        scanner = _Scanner(path, file)
        try:
            yield scanner
        except UnicodeDecodeError as error:
            raise DataError(_no_utf8(path, scanner.line, error)) from error


def _no_utf8(path: pathlib.Path, line: int, error: UnicodeDecodeError) -> str:
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    what = "" if head.lstrip()[:1] in (b"{", b"[") else describe_contents(head)
    if what:
        return f"{path} is no JSON but {what}"
    return f"{path} is not UTF-8 soon after line {line}: {error}; save it as UTF-8"


def _short(value: object) -> str:
    text = value if isinstance(value, str) and ", " in value else repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


class _Scanner:
    """Walks through the text of a JSON file with a small window.

    Attributes:
        line: number of the line that it has come to.
    """

    def __init__(self, path: pathlib.Path, file: TextIO) -> None:
        self.line = 1
        self._path = path
        self._file = file
        self._window = ""
        self._position = 0  # in the window
        self._decode = json.JSONDecoder().raw_decode

    def object_items(self, names: Sequence[str]) -> Iterator[Item]:
        """The entries of the lists called `names` in the object that comes next."""
        self._take("{", f"an object with the list {' and the list '.join(names)}")
        found: list[str] = []
        while self._another("}", first=not found):
            key = self._key()
            if key in found and key in names:
                self._refuse(f"has the key {_short(key)}, which stands there twice")
            found.append(key)
            if key in names and self._peek() == "[":
                yield from self.list_items(key)
            elif key in names:
                self._refuse(f"has no list at {key!r}")
            else:
                self._value()
        missing = [name for name in names if name not in found]
        if missing:
            raise DataError(
                f"{self._path} has no list {missing[0]!r}, only {_short(', '.join(found))}; is it"
                " another file, or another version of it?"
            )

    def member(self, name: str) -> Any:
        """The value of that name in the object that comes next, None where it has none."""
        self._take("{", "an object")
        first = True
        while self._another("}", first=first):
            first = False
            if self._key() == name:
                return self._value()
            if self._peek() == "[":
                for _ in self.list_items(""):
                    pass
            else:
                self._value()
        return None

    def list_items(self, name: str) -> Iterator[Item]:
        """The entries of the list that comes next."""
        self._take("[", "a list")
        number = 0
        while self._another("]", first=not number):
            number += 1
            where = f"{self._path} line {self.line}, {name or 'entry'} {number}"
            yield Item(name, where, self._value())

    def finish(self) -> None:
        """Refuses what stands behind the document."""
        if self._peek():
            self._refuse("goes on behind its end")

    def _peek(self) -> str:
        """The next character that is not blank, "" at the end."""
        while True:
            end = self._position
            while end < len(self._window) and self._window[end] in _BLANK:
                end += 1
            self._pass(end)
            if end < len(self._window):
                return self._window[end]
            if not self._read():
                return ""

    def _another(self, end: str, *, first: bool) -> bool:
        """Whether another member follows, before which a comma must stand; passes that, or the end
        of the list or object.
        """
        if self._peek() == end:
            self._pass(self._position + 1)
            return False
        if not first:
            self._take(",")
            if self._peek() == end:
                self._refuse("is no JSON: nothing follows a comma")
        return True

    def _take(self, character: str, wanted: str = "") -> None:
        found = self._peek()
        if found == character:
            self._pass(self._position + 1)
        elif not found and self._position:
            self._refuse_cut()
        elif wanted and found in ("{", "["):
            holds = "an object" if found == "{" else "a list"
            self._refuse(f"holds {holds} where {wanted} must be")
        elif wanted:
            while len(self._window) < _HEAD and self._read():
                pass
            what = describe_contents(self._window[:_HEAD].encode("utf-8", "replace"))
            raise DataError(f"{self._path} is no JSON but {what or 'something else'}")
        else:
            self._refuse(f"is no JSON: {character!r} is missing")

    def _key(self) -> str:
        """The key that comes next, with its colon."""
        key = self._value()
        if not isinstance(key, str):
            self._refuse(f"has the key {_short(key)}, which is no text")
        self._take(":")
        return key

    def _value(self) -> Any:
        """The value that comes next."""
        self._peek()
        while True:
            try:
                value, end = self._decode(self._window, self._position)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._window) - _LITERAL or "Unterminated" in error.msg
                if cut and self._read():
                    continue
                if error.pos >= len(self._window) or "Unterminated" in error.msg:
                    self._refuse_cut()
                self._pass(error.pos)
                self._refuse(f"is no JSON: {error.msg}")
            except (RecursionError, ValueError) as error:  # a number of thousands of digits
                self._refuse(f"cannot be read: {error}")
            if end < len(self._window) or not self._read():
                self._pass(end)
                return value

    def _pass(self, end: int) -> None:
        self.line += self._window.count("\n", self._position, end)
        self._position = end

    def _read(self) -> bool:
        """Makes the window longer; False at the end of the file."""
        more = self._file.read(max(CHUNK, len(self._window) - self._position))
        if more:
            self._window = self._window[self._position :] + more
            self._position = 0
        return bool(more)

    def _refuse(self, what: str) -> NoReturn:
        near = self._window[max(0, self._position - 20) : self._position + 20]
        raise DataError(f"{self._path} line {self.line} {what} (near {near!r}); download it again")

    def _refuse_cut(self) -> NoReturn:
        raise DataError(
            f"{self._path} is cut: it ends in line {self.line} in the middle of its JSON; copy or"
            " download it again"
        )
