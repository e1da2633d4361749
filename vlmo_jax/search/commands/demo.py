"""Search at once, without a model or pictures of one's own: python -m vlmo_jax.search demo

    python -m vlmo_jax.search demo --open             # and shows the page
    python -m vlmo_jax.search demo my_demo --port=9000
    python -m vlmo_jax.search query my_demo/index "a red heart"

Writes 1,892 drawings that come with the package to FOLDER/pictures, makes an index of them in
FOLDER/index with a small model that comes with it, too, and serves that until Ctrl-C. The model
has never seen a drawing by this artist (Twemoji, CC-BY-4.0), and knows nothing of photographs: for
your own pictures, train a model or convert one (docs/SEARCH.md). Called again, it serves at once.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlmo_jax.commands.paths import user_path
from vlmo_jax.search.commands.serve import import_server
from vlmo_jax.search.demo.bundled import BUNDLED

FOLDER = "vlmo_demo"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.search demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default=FOLDER,
        type=user_path,
        help=f"where all goes (default: {FOLDER})",
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0: any that is free")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 2**16:
        parser.error(f"--port={args.port} must be 0 to 65535")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Makes what is to be searched, and serves it."""
    args = parse(argv)
    serve = import_server()
    index = make_index(args.folder)
    serve(index, port=args.port, model=BUNDLED, open_browser=args.open)


def make_index(folder: Path) -> Path:
    """Writes the drawings, and makes or renews the index of them.

    Args:
        folder: of both; made if missing.

    Returns:
        The folder of the index.
    """
    # Only now, so that --help need not wait for them.
    from vlmo_jax.search.building.update import update_index
    from vlmo_jax.search.commands.models import load_model
    from vlmo_jax.search.demo.drawings import CAPTIONS, PICTURES, write_drawings

    count = write_drawings(folder)
    print(f"{folder / PICTURES}: {count:,} drawings", flush=True)
    index = folder / "index"
    summary = update_index(
        folder / PICTURES,
        index,
        load_model(BUNDLED, None),
        BUNDLED,
        captions_file=folder / CAPTIONS,
    )
    print(f"{index}: {summary.rows:,} pictures, {summary.encoded:,} encoded now", flush=True)
    return index
