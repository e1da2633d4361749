"""Draws the search page to docs/search.png, as Debian's Chromium shows it:

    python -m docs.draw_search INDEX --query="text=a+red+heart"

Needs Playwright of the extra `test`, and the browser: `apt-get install -y chromium`.
"""

import argparse
import contextlib
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import vlmo_jax
from docs.architecture import ROOT
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.search import open_index
from vlmo_jax.search.queries import Searcher
from vlmo_jax.search.server.limits import Limits
from vlmo_jax.search.server.served import Newest, warm_up
from vlmo_jax.search.server.serving import listen, make_server

PICTURE = ROOT / "docs" / "search.png"
INSTALL = "apt-get install -y chromium"
# Nothing of its own may go out: the tests look at each request, and the network may be closed.
_ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
)


def find_chromium() -> str | None:
    """The program, or None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser without a window.

    Raises:
        FileNotFoundError: Chromium is not installed.
    """
    program = find_chromium()
    if program is None:
        raise FileNotFoundError(f"Chromium is not installed; get it with: {INSTALL}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_ARGUMENTS.split())
        yield browser
        browser.close()


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of an index that is served meanwhile."""
    listening, ready = listen("127.0.0.1", 0), threading.Event()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with open_index(folder) as index:
        searcher = Searcher(index, vlmo_jax.load(index.about.model, show_progress=False))
        warm_up(searcher)
        server = make_server(Newest(searcher), limits=Limits(), ready=ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        ready.wait()
        try:
            yield address
        finally:
            server.stop()
            thread.join()


def draw(folder: Path, query: str, path: Path) -> None:
    """Draws the page of an index.

    Args:
        folder: of the index.
        query: of the address.
        path: file to write, .png.
    """
    with _served(folder) as address, open_browser() as browser:
        page = browser.new_page(viewport={"width": 1180, "height": 760})
        page.goto(f"{address}/?{query}")
        page.locator(".tile").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.locator(".tile").nth(1).hover()
        page.wait_for_timeout(500)  # until it has faded in
        shown = Image.open(io.BytesIO(page.screenshot()))
        shown.convert("RGB").quantize(
            256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
        ).save(path, optimize=True)


@told_in_one_line()
def main() -> None:
    """Draws what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("index", metavar="INDEX", type=Path)
    parser.add_argument("--query", default="text=a+red+heart", help="of the page's address")
    args = parser.parse_args()
    draw(args.index, args.query, PICTURE)
    print(f"Drew {PICTURE}")


if __name__ == "__main__":
    main()
