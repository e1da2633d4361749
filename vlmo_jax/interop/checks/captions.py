"""Kind `caption_metrics`: tokens of captions, and their scores."""

from collections.abc import Mapping
from typing import Any

from vlmo_jax.evals.caption_scores import NAMES, caption_scores
from vlmo_jax.evals.caption_tokens import (
    JAVA,
    PYTHON,
    find_java,
    java_tokens,
    official_lines,
    python_tokens,
)
from vlmo_jax.interop.checks.reference import Arrays, Info

TOLERANCE = 1e-9
_SECTION_KEYS = {"references", "candidates"}


def check_caption_metrics(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares scores of each section, overall and of each image, and tokens: those of Java where
    it is there, else those of Python.
    """
    folder = find_java()
    print(f"tokens by {PYTHON if folder is None else JAVA}")
    if folder is None:
        tokenize = lambda texts: [python_tokens(text) for text in texts]
    else:
        tokenize = lambda texts: java_tokens(texts, folder)
    for name, section in info.items():
        if not isinstance(section, Mapping):
            continue
        if "images" in section:
            whole = info["tokenised"]
            kept = {key: {i: whole[key][i] for i in section["images"]} for key in _SECTION_KEYS}
            _check_scores(name, {**section, **kept}, report)
        elif "references_tokens" in section:
            _check_tokens(name, section, tokenize, report)
            of_tokens = {key: section[f"{key}_tokens"] for key in _SECTION_KEYS}
            _check_scores(name, {**section, **of_tokens}, report)
        elif section.keys() >= _SECTION_KEYS:
            _check_scores(name, section, report)
    rows = info.get("ptb", [])
    found = tokenize([raw for raw, _ in rows])
    for (raw, wanted), ours in zip(rows, found, strict=True):
        report.compare_equal(f"ptb/{raw!r}", ours, wanted)
    for mark, *wanted in info.get("line_breaks", []):
        first = f"one{mark} two" if mark else ""
        lines = tokenize(official_lines([first, "three"]))
        report.compare_equal(f"line_breaks/{mark!r}", lines, wanted)


def _check_scores(name: str, section: Mapping[str, Any], report: Any) -> None:
    references, candidates = section["references"], section["candidates"]
    found = caption_scores([references[image] for image in candidates], list(candidates.values()))
    wanted = section["overall"]
    report.compare_names(f"{name}/overall", found.overall, wanted)
    for score in NAMES:
        report.compare(f"{name}/{score}", found.overall[score], wanted[score], TOLERANCE)
    report.compare_names(f"{name}/per_image", candidates, section["per_image"])
    for image, ours in zip(candidates, found.per_image, strict=True):
        theirs = section["per_image"][image]
        # 10 digits are kept.
        close = max(TOLERANCE, 1e-9 * max(map(abs, theirs)))
        report.compare(f"{name}/per_image/{image}", ours, theirs, close)


def _check_tokens(name: str, section: Mapping[str, Any], tokenize: Any, report: Any) -> None:
    raw, wanted = [], []
    for image, text in section["candidates"].items():
        raw += [text, *section["references"][image]]
        wanted += [section["candidates_tokens"][image], *section["references_tokens"][image]]
    found = tokenize([text.replace("\n", " ") for text in raw])
    for text, ours, theirs in zip(raw, found, wanted, strict=True):
        report.compare_equal(f"{name}/{text!r}", ours, theirs)
