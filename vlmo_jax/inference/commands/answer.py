"""Answers to questions about images: python -m vlmo_jax.answer QUESTIONS --model=DIR

    python -m vlmo_jax.answer questions.jsonl --model=runs/finetune_vqa
    python -m vlmo_jax.answer questions.jsonl --model=runs/finetune_vqa --top_k=5 --json > out.jsonl

A line of QUESTIONS is {"image": PATH, "question": TEXT}, with any other fields beside; paths are
relative to its folder. With --json each comes back with "answers", [[answer, probability], ...]
best first, else a table is printed: probability, answer, image, question. A question that cannot be
used has "error" instead, and is counted at the end.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmo_jax.inference.commands.rows import Row, make_parser, run

if TYPE_CHECKING:
    from vlmo_jax.inference.model import Model


def main(argv: Sequence[str] | None = None) -> None:
    """Answers the questions that the command line names, and prints the answers."""
    parser = make_parser("answer", __doc__)
    parser.add_argument("--top_k", type=int, default=3, metavar="K", help="answers to a question")
    parser.add_argument("--answers", metavar="FILE", help="their list, where the model has none")
    args = parser.parse_args(argv)
    if args.top_k < 1:
        parser.error(f"--top_k={args.top_k} must be 1 or more")
    ask = functools.partial(_ask, top_k=args.top_k)
    run(args, "question", ask, _show, answers=args.answers)


def _ask(
    model: "Model", images: list[str], questions: list[str], told: Any, top_k: int
) -> list[Row]:
    found = model.answer(images, questions, top_k=top_k, on_error=told)
    return [{"answers": [[a, round(p, 6)] for a, p in pairs]} for pairs in found]


def _show(row: Row) -> str:
    return "\n".join(
        f"{probability:9.4f}  {answer}  {row['image']}  {row['question']}"
        for answer, probability in row["answers"]
    )
