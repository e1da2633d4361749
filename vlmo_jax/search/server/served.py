"""The index that a server searches, and the next one once it is in place."""

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from vlmo_jax.commands.endings import UserError
from vlmo_jax.inference.heads import UnfitModelError, require_head
from vlmo_jax.inference.model import Model
from vlmo_jax.search.about import read_about
from vlmo_jax.search.engines import Engine
from vlmo_jax.search.index import Index, open_index
from vlmo_jax.search.queries import Searcher
from vlmo_jax.search.questions import Query, Term
from vlmo_jax.search.server.catalogue import Catalogue

# The engine of an index; None: the exact search over all.
OpenEngine = Callable[[Index], Engine | None]

_PAGES = (49, 97)  # what a search for the first and the second page of the page is asked for
_log = logging.getLogger(__name__)


class Served(NamedTuple):
    """What a request is answered from, together.

    Attributes:
        searcher: of an index and its model.
        catalogue: of the same index.
    """

    searcher: Searcher
    catalogue: Catalogue


class Newest:
    """The newest index of a folder that could be opened.

    Another one takes its place whole, between two requests. Those under way go on with the one that
    they have, which is closed when the last of them is answered.

    Args:
        searcher: of the index that is there.
        open_engine: for those that come.

    Attributes:
        can_match: whether the model judges matches.
        now: what is served; take it once a request.
    """

    def __init__(self, searcher: Searcher, open_engine: OpenEngine = lambda index: None) -> None:
        self._open_engine = open_engine
        self.can_match = can_match(searcher.model)
        self.now = Served(searcher, Catalogue(searcher.index, self.can_match))

    def renew(self) -> bool:
        """Puts the index that is there now in the place of the one that is served.

        Returns:
            Whether it is another one.

        Raises:
            UserError: it cannot be used, or is of another model; the old one is served on.
        """
        old, model = self.now.searcher.index, self.now.searcher.model
        if read_about(old.folder) == old.about:
            return False
        with contextlib.ExitStack() as stack:
            index = stack.enter_context(open_index(old.folder))
            searcher = Searcher(index, model, self._open_engine(index))
            warm_up(searcher)
            self.now = Served(searcher, Catalogue(index, self.can_match))
            stack.pop_all()  # it is closed when nobody has it any more
        return True

    async def watch(self, seconds: float) -> None:
        """Renews what is served until it is cancelled; says once what stands in the way.

        Args:
            seconds: between two looks.
        """
        thread, told = concurrent.futures.ThreadPoolExecutor(1, "renew"), ""
        try:
            while True:
                await asyncio.sleep(seconds)
                try:
                    if await asyncio.get_running_loop().run_in_executor(thread, self.renew):
                        told = ""
                        count = len(self.now.searcher.index)
                        print(f"The index was renewed: {count:,} pictures", flush=True)
                except Exception as error:  # whatever it is, the old one can be searched
                    if str(error) != told:
                        told = str(error)
                        _log.error(
                            "error: the index was renewed, and is served as it was before: %s",
                            error,
                            exc_info=not isinstance(error, (UserError, OSError)),
                        )
        finally:
            thread.shutdown(wait=False, cancel_futures=True)


def can_match(model: Model) -> bool:
    """Whether a model judges matches of pictures and texts."""
    try:
        require_head("itm", model.params, "it")
    except UnfitModelError:
        return False
    return True


def warm_up(searcher: Searcher) -> None:
    """Asks what compiles everything, so that no client waits for it."""
    rerank = 20 if can_match(searcher.model) else 0
    picture = Term(image=Image.new("RGB", (searcher.model.image_size,) * 2))
    for count in _PAGES:
        for batch in (1, 9):  # of each size that programs are compiled for
            texts = [Term(text=f"warm {number}") for number in range(batch)]
            searcher.search_many([Query([text, picture], top_k=count) for text in texts])
    searcher.search_many([Query([Term(text="warm")], top_k=20, rerank=rerank)])
