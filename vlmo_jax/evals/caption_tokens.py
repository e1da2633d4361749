"""Captions in the tokens by which they are scored: those of the Penn Treebank, lower case, without
punctuation.

Papers score what Stanford's PTBTokenizer 3.4.1 makes of captions, a Java program that pycocoevalcap
has. Where both are there it is used, and `missing_for_java` says what is not. `python_tokens`
follows its rules in Python for what captions are made of; docs/CAPTIONING.md says how far it holds.

Source: pycocoevalcap 1.2; PTBLexer of Stanford CoreNLP 3.4.1 with -preserveLines -lowerCase.
"""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vlmo_jax.commands.endings import UserError

LIBRARY = "pycocoevalcap"
JAVA, PYTHON = "PTBTokenizer 3.4.1 (Java)", "PTB tokens in Python"
_JAR = "stanford-corenlp-3.4.1.jar"
# Tokens that are left out. The brackets' names never come up in lower case: -lrb- stays.
_MARKS = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
_DROPPED = re.compile(r"\.{4,}|-{3,}|")  # which Java writes as one of the marks, or not at all
# What Java takes for the end of a line.
_LINE_ENDS = re.compile(r"\r\n|[\n\v\f\r\u2028\u2029]")


class TokenizerFailedError(UserError, RuntimeError):
    """Java's tokenizer gave something else than a line a caption."""


def library_version() -> str | None:
    """The version of pycocoevalcap, where it is installed."""
    try:
        return importlib.metadata.version(LIBRARY)
    except importlib.metadata.PackageNotFoundError:
        return None


def find_java() -> Path | None:
    """The folder of the archive of pycocoevalcap, where that and Java are installed."""
    if shutil.which("java") is None or library_version() is None:
        return None
    found = importlib.util.find_spec(f"{LIBRARY}.tokenizer")
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (Path(folder) / _JAR).is_file():
            return Path(folder)
    return None


def missing_for_java() -> str:
    """What is not there for the tokens of Java, in words; "" where nothing is missing."""
    if find_java() is not None:
        return ""
    if library_version() is None:
        return f"{LIBRARY} is not installed (pip install 'vlmo-jax[caption]')"
    return "there is no java on the path" if not shutil.which("java") else f"{_JAR} is gone"


def caption_tokens(texts: Sequence[str]) -> tuple[list[str], str]:
    """The tokens of captions, joined by blanks, and which tokenizer made them.

    White space of any kind is a blank first: in the official evaluation a line end of Java within a
    caption shifts all captions behind it.
    """
    lines, folder = [" ".join(text.split()) for text in texts], find_java()
    if folder is None:
        return [python_tokens(line) for line in lines], PYTHON
    return java_tokens(lines, folder), JAVA


def java_tokens(lines: Sequence[str], folder: Path) -> list[str]:
    """The same by Java, of texts without line ends.

    Raises:
        TokenizerFailedError: it failed.
    """
    command = ["java", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", _JAR]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    done = subprocess.run(
        command, cwd=folder, input="\n".join(lines).encode(), capture_output=True, check=False
    )
    made = done.stdout.decode("utf-8", "replace").split("\n")
    if done.returncode or len(made) < len(lines):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise TokenizerFailedError(
            f"Java's PTBTokenizer gave {len(made)} lines for {len(lines)} captions"
            f" ({' '.join(said)}); look whether `java -version` works, or uninstall pycocoevalcap"
            " to use the tokens of Python"
        )
    return [_without_marks(line.split(" ")) for line in made[: len(lines)]]


def official_lines(texts: Sequence[str]) -> list[str]:
    """What the official evaluation takes for the lines of captions: those of Java, as many as
    there are captions.
    """
    joined = "\n".join(text.replace("\n", " ") for text in texts)
    return _LINE_ENDS.split(joined)[: len(texts)]


def _without_marks(tokens: Sequence[str]) -> str:
    return " ".join(t for t in tokens if t not in _MARKS and not _DROPPED.fullmatch(t))


_PICTOGRAPHS = map(chr, range(0x1F000, 0x20000))  # are no tokens
_REPLACED: dict[str, str] = dict.fromkeys(_PICTOGRAPHS, " ")
_REPLACED |= dict.fromkeys("‘’‛", "'") | dict.fromkeys("“”„«»", '"') | dict.fromkeys("€¤", "$")
_REPLACED |= {
    "–": " -- ",
    "—": " -- ",
    "…": " ... ",
    "£": "#",
    "¢": "cents",
    "½": " 1/2",
    "¼": " 1/4",
    "¾": " 3/4",
    "⅓": " 1/3",
    "⅔": " 2/3",
}
_CHANGED = str.maketrans(_REPLACED)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_BRACKETS |= {f"{eyes})": f"{eyes}-rrb-" for eyes in (":", ":-", ";", ";-", "=", "=-")}
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue"
    "|wed|thu|fri|sat|sun|inc|co|corp|ltd|ave|blvd|rd|gen|sen|rep|gov|capt|lt|col|sgt|ft|mt|ph\\.d"
    "|p\\.m|a\\.m|e\\.g|i\\.e|esq|lieut|hon"
)
_TAIL = r"(?:'(?:s|m|d|re|ve|ll)\b|n't\b)"
_SPLIT_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "gimme": "gim me",
    "lemme": "lem me",
    "'tis": "'t is",
    "'twas": "'t was",
    "d'ye": "d' ye",
    "more'n": "more 'n",
    "y'all": "y' all",
}
_FRACTION = re.compile(r"(?<=\d) (?=\d+/\d)")  # Java's token of "1 1/2" keeps its blank
_TOKEN = re.compile(
    rf"""
      https?://[^\s"<>|()]+[^\s"<>|().!?,;:\-] | www\.[^\s"<>|()]+[^\s"<>|().!?,;:\-]
    | \d+(?:,\d+)*(?:st|nd|rd|th|\.\d+)?(?:-\w+)+ | \.\d+ | [\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+
    | '(?:tis|twas|till?|cause|em)\b | '[0-9]0s\b | 'n\b'?
    | (?:{_ABBREVIATIONS})\.(?=\s|$|[,;:)"'])
    | (?:[a-z]\.){{2,}}(?!\w)
    | no\.(?=\s*\d) | (?-i:No)\. | \b(?-i:[A-HJ-Z])\.(?!\w)
    | \b(?-i:[a-zI])\.(?!\w)(?!\s+(?-i:[A-Z]))
    | [a-z]\+\+ | [a-z]\#(?![\w]) | \bw/o\b
    | \d+\xa0\d+/\d+ | \d{{1,2}}:\d\d
    | \d+[^\W\d_]+\d\w*(?:-\w+)*
    | [+\-]?\d+(?:,\d+)*(?:\.\d+)?(?:/\d+)?(?:(?:st|nd|rd|th|s|am|pm|km/h|[a-z]+)\b(?:/[a-z]+)?)?
    | (?:d'|l'|o')[^\W\d_]+
    | \w+(?:-\w+)+(?:/\w+)*
    | (?-i:[A-Z]+(?:&[A-Z]+)+) | \w+(?:/\w+)+
    | \w+(?:\.\w+)+
    | {_TAIL}
    | \w+?(?={_TAIL}) | \w+(?='n\b) | \w+(?:'\w+)*
    | [:;=]-?\)
    | \.{{3,}} | -{{2,}} | [?!]{{2,}} | `` | ''
    | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)


def python_tokens(text: str) -> str:
    """The tokens of a caption, joined by blanks."""
    text = _FRACTION.sub("\xa0", text).translate(_CHANGED)
    tokens: list[str] = []
    for token in map(str.lower, _TOKEN.findall(text)):
        tokens += _SPLIT_WORDS.get(token, _BRACKETS.get(token, token)).split(" ")
    return _without_marks([token for token in tokens if token != '"'])
