"""Captions of images: python -m vlmo_jax.caption IMAGES --model=DIR

    python -m vlmo_jax.caption images.jsonl --model=runs/finetune_caption
    python -m vlmo_jax.caption images.jsonl --model=runs/finetune_caption --json > captions.jsonl
    echo '{"image": "a.jpg"}' | python -m vlmo_jax.caption - --model=runs/finetune_caption

A line of IMAGES is {"image": PATH}, with any other fields beside; paths are relative to its folder.
With --json each comes back with "caption" and "score", the logarithm of its probability over a
power of its length, else a table is printed: score, image, caption. An image that cannot be used
has "error" instead, and is counted at the end.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vlmo_jax.inference.commands.rows import Row, make_parser, run

if TYPE_CHECKING:
    from vlmo_jax.inference.model import Model


def main(argv: Sequence[str] | None = None) -> None:
    """Writes captions of the images that the command line names, and prints them."""
    parser = make_parser("caption", __doc__)
    parser.add_argument("--beams", type=int, default=3, metavar="K", help="1: greedy search")
    parser.add_argument(
        "--max_length", type=int, metavar="N", help="tokens, begin and end included"
    )
    parser.add_argument("--length_penalty", type=float, default=0.6, metavar="P", help="0: none")
    args = parser.parse_args(argv)
    search = dict(beams=args.beams, max_length=args.max_length, length_penalty=args.length_penalty)
    run(args, "image", functools.partial(_ask, search=search), _show)


def _ask(
    model: "Model", images: list[str], texts: list[str], told: Any, search: dict[str, Any]
) -> list[Row]:
    found = model.caption(images, on_error=told, **search)
    return [{"caption": text, "score": round(score, 6)} for text, score in found]


def _show(row: Row) -> str:
    return f"{row['score']:9.4f}  {row['image']}  {row['caption']}"
