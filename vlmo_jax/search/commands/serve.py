"""A page in the browser to search an index, and an interface for programs:
python -m vlmo_jax.search serve INDEX

    python -m vlmo_jax.search serve INDEX --open              # and shows the page
    python -m vlmo_jax.search serve INDEX --port=9000
    python -m vlmo_jax.search serve INDEX --name=pictures.example.org    # behind a proxy

Only programs of this machine can ask it, unless --host says otherwise; then whoever reaches the
machine can look at all pictures of the index, and at nothing else. Ctrl-C stops it. When the
index is renewed meanwhile, the server goes over to it within some seconds.

Programs ask /search?text=a+red+heart; /openapi.json describes all, and docs/SEARCH.md shows it.
"""

import argparse
from collections.abc import Callable, Sequence

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.search.demo.bundled import model_folder


class MissingServerError(UserError, ImportError):
    """What the server is made of is not installed."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.search serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("index", metavar="INDEX", type=user_path, help="folder of the index")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0: any that is free")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: all addresses of the machine")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="a name that browsers may know it by; may be given several times",
    )
    parser.add_argument(
        "--model", metavar="DIR", type=model_folder, help="default: where it was for the index"
    )
    parser.add_argument("--tokenizer", metavar="FILE", help="where the model carries none")
    parser.add_argument(
        "--store", metavar="URL", help="search there, as `index --store` has put it"
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    args = parser.parse_args(argv)
    if not 0 <= args.port < 2**16:
        parser.error(f"--port={args.port} must be 0 to 65535")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Serves the index that the command line names, until it is stopped."""
    args = parse(argv)
    serve = import_server()
    serve(
        args.index,
        port=args.port,
        host=args.host,
        names=args.name,
        model=args.model,
        tokenizer=args.tokenizer,
        store=args.store,
        open_browser=args.open,
    )


def import_server() -> Callable[..., None]:
    """The function `serve`, imported when it is asked for, so that --help need not wait for it.

    Raises:
        MissingServerError: what it is made of is not installed.
    """
    try:
        from vlmo_jax.search.server.serving import serve
    except ModuleNotFoundError as error:
        if str(error.name).startswith("vlmo_jax"):
            raise
        raise MissingServerError(
            f"the server needs {error.name}, which is not installed; get it with:"
            " pip install -e '.[search]'"
        ) from error
    return serve
