"""Whether images and texts belong together: python -m vlmo_jax.match PAIRS --model=DIR

    python -m vlmo_jax.match pairs.jsonl --model=runs/stage3
    python -m vlmo_jax.match pairs.jsonl --model=runs/stage3 --json > matched.jsonl
    echo '{"image": "a.jpg", "text": "two cats"}' | python -m vlmo_jax.match - --model=runs/stage3

A line of PAIRS is {"image": PATH, "text": TEXT}, with any other fields beside; paths are relative
to its folder. With --json each comes back with "match", a probability by the fusion encoder, else
a table is printed: match, image, text. A pair that cannot be used has "error" instead, and is
counted at the end.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmo_jax.inference.commands.rows import Row, make_parser, run

if TYPE_CHECKING:
    from vlmo_jax.inference.model import Model


def main(argv: Sequence[str] | None = None) -> None:
    """Matches the pairs that the command line names, and prints them."""
    run(make_parser("match", __doc__).parse_args(argv), "text", _ask, _show)


def _ask(model: "Model", images: list[str], texts: list[str], told: Any) -> list[Row]:
    return [{"match": round(float(p), 6)} for p in model.match(images, texts, on_error=told)]


def _show(row: Row) -> str:
    return f"{row['match']:9.4f}  {row['image']}  {row['text']}"
