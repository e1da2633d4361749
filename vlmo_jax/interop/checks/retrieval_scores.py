"""Kinds `retrieval_metrics` and `retrieval_folds`: recalls and ranks from stored similarities.

A table of similarities is searched as embeddings: its rows among the rows of the unit matrix.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vlmo_jax.evals import recall
from vlmo_jax.evals.folds import fold_metrics
from vlmo_jax.interop.checks.reference import Arrays, Info

PERCENT_TOLERANCE, FLOAT32_TOLERANCE = 1e-9, 1e-6
WAYS = ("image_to_text", "text_to_image")
ALBEF_NAMES = {"txt": "image_to_text", "img": "text_to_image"}
VLMO_NAMES = {"TR": "image_to_text", "IR": "text_to_image"}


def unit_rows(count: int) -> np.ndarray:
    """Candidates whose similarities with a row are the row: [count, count] float32."""
    return np.eye(count, dtype=np.float32)


def official_vector(metrics: Mapping[str, float], way: str) -> list[float]:
    """R@1, R@5, R@10 in percent, median rank and mean rank."""
    recalls = [100 * metrics[f"{way}_recall_at_{k}"] for k in recall.CUTOFFS]
    return [*recalls, metrics[f"{way}_median_rank"], metrics[f"{way}_mean_rank"]]


def both_ranks(
    similarity: np.ndarray, image_groups: np.ndarray, text_groups: np.ndarray
) -> tuple[recall.Ranks, recall.Ranks]:
    """Ranks of images' and of texts' searches in a table [images, texts]."""
    images, texts = similarity.shape
    return (
        recall.best_ranks(similarity, unit_rows(texts), image_groups, text_groups),
        recall.best_ranks(similarity.T, unit_rows(images), text_groups, image_groups),
    )


def albef_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Our metrics by ALBEF's names and in its order, in percent."""
    named: dict[str, float] = {}
    for name, way in ALBEF_NAMES.items():
        recalls = {k: 100 * metrics[f"{way}_recall_at_{k}"] for k in recall.CUTOFFS}
        named |= {f"{name}_r{k}": value for k, value in recalls.items()}
        named[f"{name}_r_mean"] = float(np.mean(list(recalls.values())))
    return {**named, "r_mean": 100 * metrics["mean_recall"]}


def vlmo_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Our metrics by VLMo's names, as shares."""
    return {
        f"{name}@{k}": metrics[f"{way}_recall_at_{k}"]
        for name, way in VLMO_NAMES.items()
        for k in recall.CUTOFFS
    }


def check_retrieval_metrics(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares ranks, recalls, and median and mean ranks of each case."""
    for number, _ in enumerate(info["cases"]):
        prefix = f"case{number}/"
        case = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
        scores, groups = case["scores_i2t"], case["txt2img"]
        to_text, to_image = both_ranks(scores, np.arange(len(scores)), groups)
        metrics = recall.recall_metrics(to_text, to_image)
        for name, way, ranks in (("i2t", WAYS[0], to_text), ("t2i", WAYS[1], to_image)):
            report.compare(
                f"{prefix}vse_{name}_ranks", ranks.expected, case[f"vse_{name}_ranks"], 0.0
            )
            vector = official_vector(metrics, way)
            report.compare(f"{prefix}vse_{name}", vector, case[f"vse_{name}"], 1e-4)
        total = sum(sum(official_vector(metrics, way)[:3]) for way in WAYS)
        report.compare(f"{prefix}vse_rsum", total, case["vse_rsum"], 1e-3)
        images = unit_rows(len(scores))
        own = recall.best_ranks(case["scores_t2i"], images, groups, np.arange(len(scores)))
        albef = albef_metrics(recall.recall_metrics(to_text, own))
        report.compare(f"{prefix}albef", list(albef.values()), case["albef"], 1e-4)


def check_folds(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares the metrics of folds and of the whole, and those after re-ranking."""
    _check_folds(arrays["folds/similarity"], arrays, info["five_folds"], report)
    _check_reranking(arrays, info["rerank"], report)


def _check_folds(similarity: np.ndarray, arrays: Arrays, wanted: Info, report: Any) -> None:
    images, texts = np.arange(len(similarity)), unit_rows(similarity.shape[1])
    groups = np.arange(len(texts)) // wanted["captions_per_image"]
    to_text, to_image = both_ranks(similarity, images, groups)
    for way, ranks in zip(WAYS, (to_text, to_image), strict=True):
        report.compare(f"folds/rank_{way}", ranks.expected, arrays[f"folds/rank_{way}"], 0.0)
    size = wanted["fold_images"]
    cases = {"all at once": (images, wanted["all_at_once"])}
    for number, fold in enumerate(wanted["folds"]):
        cases[f"fold {number}"] = (images[number * size : (number + 1) * size], fold)
    for name, (rows, case) in cases.items():
        here = np.isin(groups, rows)
        both = both_ranks(similarity[np.ix_(rows, here)], rows, groups[here])
        _compare_vectors(name, recall.recall_metrics(*both), case, report)
    mean = fold_metrics(similarity, texts, images, groups, folds=len(wanted["folds"]))
    _compare_vectors("mean of folds", mean, wanted["mean_of_five_folds"], report)


def _compare_vectors(name: str, metrics: Mapping[str, float], wanted: Info, report: Any) -> None:
    vectors = {way: official_vector(metrics, way) for way in WAYS}
    for way, vector in vectors.items():
        report.compare(f"{name}/{way}", vector, wanted[way], PERCENT_TOLERANCE)
    if "rsum" in wanted:
        total = sum(sum(vector[:3]) for vector in vectors.values())
        report.compare(f"{name}/rsum", total, wanted["rsum"], PERCENT_TOLERANCE)


def _check_reranking(arrays: Arrays, wanted: Info, report: Any) -> None:
    similarity, match = arrays["rerank/similarity"], arrays["rerank/itm_match_logit"]
    images, groups = np.arange(len(similarity)), arrays["rerank/caption_image"]
    ways = ((similarity, match, images, groups), (similarity.T, match.T, groups, images))
    plain = both_ranks(similarity, images, groups)

    def compare(name: str, case: Info, replaced: tuple, added: tuple) -> None:
        albef = albef_metrics(recall.recall_metrics(*replaced))
        vlmo = vlmo_metrics(recall.recall_metrics(*added))
        for key, value in case["ALBEF_percent"].items():
            report.compare(f"{name}/ALBEF/{key}", albef[key], value, PERCENT_TOLERANCE)
        for key, value in case["VLMo_fraction"].items():
            report.compare(f"{name}/VLMo/{key}", vlmo[key], value, FLOAT32_TOLERANCE)

    compare("dual encoder", wanted["dual_encoder_only"], plain, plain)
    for case in wanted["cases"]:
        replaced, added = [], []
        for old_ranks, (scores, logits, own, others) in zip(plain, ways, strict=True):
            top = recall.top_candidates(scores, unit_rows(scores.shape[1]), case["k"]).rows
            right = others[top] == own[:, None]
            chosen = np.take_along_axis(logits, top, axis=1)
            near = np.take_along_axis(scores, top, axis=1)
            replaced.append(recall.reranked_ranks(old_ranks, right, chosen))
            added.append(recall.reranked_ranks(old_ranks, right, chosen + near))
        compare(f"re-ranked {case['k']}", case, tuple(replaced), tuple(added))
