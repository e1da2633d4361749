"""Kinds `vqa_eval`, `vqa_vocab`, `nlvr2_consistency`: scores of answers and targets of training."""

from typing import Any

from vlmo_jax.datasets.vqa_answers import (
    Annotation,
    build_vocabulary,
    normal_words,
    soft_targets,
    vocabulary_form,
    without_marks,
)
from vlmo_jax.evals.consistency import MissingPredictionsError, accuracy_and_consistency
from vlmo_jax.evals.vqa_accuracy import Answered, question_accuracy, vqa_accuracy
from vlmo_jax.interop.checks.reference import Arrays, Info


def check_vqa_eval(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares normal forms of answers, the accuracy of each question, and those of the split."""
    for raw, *forms in info["normalise"]:
        plain = without_marks(raw)
        ours = [plain, normal_words(plain), vocabulary_form(raw)]
        report.compare_equal(f"normalise/{raw!r}", ours, forms)
    questions = info["questions"]
    for question in questions:
        accuracy = 100 * question_accuracy(question["answers"], question["prediction"])
        name = f"accuracy/{question['question_id']}"
        report.compare_equal(name, round(accuracy, 2), question["accuracy"])
    fields = ("question_type", "answer_type", "answers", "prediction")
    found = vqa_accuracy(Answered(*(question[field] for field in fields)) for question in questions)
    wanted = {"overall": info["overall"]}
    for group in ("question_type", "answer_type"):
        wanted |= {f"{group}/{name}": value for name, value in info[f"per_{group}"].items()}
    report.compare_names("scores", found, wanted)
    for name in sorted(set(found) & set(wanted)):
        report.compare_equal(name, found[name], wanted[name])


def check_vqa_vocab(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares vocabularies, soft targets, and what is dropped, at each threshold that is given."""
    splits = {
        split: [Annotation(row[0], row[1], row[2], tuple(row[3])) for row in rows]
        for split, rows in info["files"].items()
    }
    together = [annotation for split in ("train", "val") for annotation in splits.get(split, [])]
    for key in sorted(key for key in info if key.startswith("min_count_")):
        wanted = info[key]
        vocabulary = build_vocabulary(together, int(key.removeprefix("min_count_")))
        report.compare_equal(f"{key}/vocabulary", vocabulary, wanted["vocabulary"])
        ids = {answer: number for number, answer in enumerate(vocabulary)}
        targets = {a.question_id: soft_targets(a.answers, ids) for a in together}
        ours = {str(q): [list(t), list(t.values())] for q, t in targets.items() if t}
        report.compare_names(f"{key}/targets", ours, wanted["targets"])
        for question in sorted(set(ours) & set(wanted["targets"])):
            report.compare_equal(
                f"{key}/targets/{question}", ours[question], wanted["targets"][question]
            )
        for split, annotations in splits.items():
            order = info["question_order"][split]
            dropped = [question for question in order if not targets[question]]
            report.compare_equal(f"{key}/dropped/{split}", dropped, wanted["dropped"][split])
            kept = {a.image_id for a in annotations if targets[a.question_id]}
            images = sorted({a.image_id for a in annotations} - kept)
            report.compare_equal(
                f"{key}/images_dropped/{split}", images, sorted(wanted["images_dropped"][split])
            )


def check_consistency(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares accuracy and consistency of each case, or which predictions are missing."""
    for case in info["cases"]:
        labels, predictions = dict(case["examples"]), dict(case["predictions"])
        try:
            found: dict[str, Any] = accuracy_and_consistency(labels, predictions)
        except MissingPredictionsError as error:
            found = {"missing": error.missing}
        wanted = case["expected"]
        report.compare_names(f"{case['name']}", found, wanted)
        for name in sorted(set(found) & set(wanted)):
            if name == "missing":
                report.compare_equal(f"{case['name']}/missing", found[name], wanted[name])
            else:
                report.compare(f"{case['name']}/{name}", found[name], wanted[name], 1e-12)
