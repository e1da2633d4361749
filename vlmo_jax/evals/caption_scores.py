"""BLEU, ROUGE-L and CIDEr-D of captions, by pycocoevalcap where it is installed, else as its
version 1.2 has them.

Texts are tokens joined by blanks. Its oddities are reproduced: BLEU and CIDEr-D split on any white
space, ROUGE-L on single blanks, so that "" is one empty token; the length by which CIDEr-D punishes
counts pairs of words.

Source: Papineni et al. 2002; Lin 2004; Vedantam et al. 2015 (arXiv 1411.5726); the COCO caption
evaluation (arXiv 1504.00325).
"""

import collections
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

NAMES = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
_ORDERS = 4  # n-grams of 1 to 4 words
_SIGMA = 6.0
_BETA = 1.2
_SMALL, _TINY = 1e-9, 1e-15

_Grams = collections.Counter[tuple[str, ...]]


class CaptionScores(NamedTuple):
    """Scores; CIDEr-D with its factor 10, so that 1.2 is what papers print as 120.

    Attributes:
        overall: NAMES -> score. BLEU pools its counts over the images, the others are means.
        per_image: float64 [N, 6], in the order of NAMES.
    """

    overall: dict[str, float]
    per_image: np.ndarray


def caption_scores(references: Sequence[Sequence[str]], candidates: Sequence[str]) -> CaptionScores:
    """Scores captions beside those of people.

    Args:
        references: [N] of one or more texts each.
        candidates: [N], one text an image.

    Raises:
        ValueError: there are no images, or one has no reference.
    """
    if not candidates or not all(references):
        raise ValueError("captions are scored beside one or more references of each image")
    grams = [[_count(text) for text in texts] for texts in references]
    written = [_count(text) for text in candidates]
    pooled, bleu = _bleu(references, candidates, grams, written)
    rouge = [_rouge(*pair) for pair in zip(candidates, references, strict=True)]
    cider = _cider(grams, written)
    overall = [*pooled, np.mean(rouge), np.mean(cider)]
    per_image = np.column_stack([np.array(bleu), rouge, cider])
    return CaptionScores({n: float(s) for n, s in zip(NAMES, overall, strict=True)}, per_image)


def library_scores(references: Sequence[Sequence[str]], candidates: Sequence[str]) -> CaptionScores:
    """The same by pycocoevalcap; arguments as of `caption_scores`.

    Raises:
        ImportError: it is not installed.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    known = {row: list(texts) for row, texts in enumerate(references)}
    written = {row: [text] for row, text in enumerate(candidates)}
    bleu, each_bleu = Bleu(_ORDERS).compute_score(known, written, verbose=0)
    rouge, each_rouge = Rouge().compute_score(known, written)
    cider, each_cider = Cider().compute_score(known, written)
    overall = {n: float(s) for n, s in zip(NAMES, (*bleu, rouge, cider), strict=True)}
    return CaptionScores(overall, np.column_stack([*each_bleu, each_rouge, each_cider]))


def _count(text: str) -> _Grams:
    words = text.split()
    return collections.Counter(
        tuple(words[start : start + order])
        for order in range(1, _ORDERS + 1)
        for start in range(len(words) - order + 1)
    )


def _bleu(references, candidates, grams, written):
    """BLEU-1 to 4 of all images together, and of each."""
    total, each = np.zeros(2 * _ORDERS + 2), []
    for texts, text, known, own in zip(references, candidates, grams, written, strict=True):
        length = len(text.split())
        closest = min((abs(len(t.split()) - length), len(t.split())) for t in texts)[1]
        most = _largest(known)
        right = np.zeros(_ORDERS)
        for gram, count in own.items():
            right[len(gram) - 1] += min(count, most[gram])
        guessed = np.maximum(length - np.arange(_ORDERS), 0)
        counts = np.array([*right, *guessed, length, closest])
        total += counts
        each.append(_bleu_of(counts))
    return _bleu_of(total), each


def _largest(counters: Iterable[_Grams]) -> _Grams:
    """The largest count of each n-gram."""
    most: _Grams = collections.Counter()
    for counter in counters:
        most |= counter
    return most


def _bleu_of(counts):
    right, guessed, (length, closest) = counts[:4], counts[4:8], counts[8:]
    precisions = np.cumprod((right + _TINY) / (guessed + _SMALL))
    scores = precisions ** (1 / np.arange(1, _ORDERS + 1))
    ratio = (length + _TINY) / (closest + _SMALL)
    return scores * math.exp(1 - 1 / ratio) if ratio < 1 else scores


def _rouge(candidate: str, references: Sequence[str]) -> float:
    words = candidate.split(" ")
    common = [(_longest_common(words, other), len(other)) for other in _split(references)]
    precision = max(count / len(words) for count, _ in common)
    recall = max(count / length for count, length in common)
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _split(texts):
    return [text.split(" ") for text in texts]


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for word in first:
        above = row
        row = [0]
        for place, other in enumerate(second):
            equal = word == other
            row.append(above[place] + 1 if equal else max(above[place + 1], row[place]))
    return row[-1]


def _cider(grams: Sequence[Sequence[_Grams]], written: Sequence[_Grams]) -> list[float]:
    frequency = collections.Counter(
        gram for texts in grams for gram in set(itertools.chain.from_iterable(texts))
    )
    log_images = math.log(len(grams))

    def weigh(counts: _Grams):
        """tf-idf of each order, their lengths, and how many pairs of words there are."""
        vectors: list[dict] = [{} for _ in range(_ORDERS)]
        for gram, count in counts.items():
            rarity = log_images - math.log(max(1, frequency[gram]))
            vectors[len(gram) - 1][gram] = count * rarity
        norms = [math.sqrt(sum(value**2 for value in vector.values())) for vector in vectors]
        return vectors, norms, sum(count for gram, count in counts.items() if len(gram) == 2)

    def similarity(own, other) -> float:
        total = 0.0
        for mine, theirs, norm, other_norm in zip(own[0], other[0], own[1], other[1], strict=True):
            product = sum(min(v, theirs.get(g, 0.0)) * theirs.get(g, 0.0) for g, v in mine.items())
            total += product / (norm * other_norm) if norm and other_norm else product
        return total * math.exp(-((own[2] - other[2]) ** 2) / (2 * _SIGMA**2))

    scores = []
    for texts, own in zip(grams, written, strict=True):
        vectors = weigh(own)
        mean = sum(similarity(vectors, weigh(text)) for text in texts) / len(texts)
        scores.append(10 * mean / _ORDERS)
    return scores
