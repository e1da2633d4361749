"""Queries that come at the same time are searched together."""

import asyncio
import collections
import concurrent.futures
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from vlmo_jax.search.server.limits import RefusalError, busy

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class _Waiting(NamedTuple):
    question: object
    answer: asyncio.Future


class Batcher(Generic[Question, Answer]):
    """Answers questions of many clients in batches, one batch at a time, in a thread of its own.

    A question never waits for others to come: a batch is whatever came while the one before was
    under way. So one client alone is answered at once, and many share the work.

    Args:
        answer: of questions, an answer each; called in the thread.
        size: most questions of a batch.
        waiting: most questions that wait; further ones are refused.
        seconds: after which a question is given up.
        told: called with the size of each batch.
    """

    def __init__(
        self,
        answer: Callable[[list[Question]], Sequence[Answer]],
        *,
        size: int,
        waiting: int,
        seconds: float,
        told: Callable[[int], object],
    ) -> None:
        self._answer, self._size, self._most, self._seconds = answer, size, waiting, seconds
        self._told = told
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._come = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return len(self._waiting)

    async def ask(self, question: Question) -> Answer:
        """The answer to a question.

        Raises:
            RefusalError: too many wait already, or it took too long.
        """
        if len(self._waiting) >= self._most:
            raise busy()
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(question, answer))
        self._come.set()
        try:
            return await asyncio.wait_for(answer, self._seconds)
        except TimeoutError:
            text = f"No answer within {self._seconds:g} s; ask for less, or try again later."
            raise RefusalError(503, text, {"Retry-After": "5"}) from None

    async def work(self) -> None:
        """Answers what is asked until it is cancelled; what waits then is refused."""
        with concurrent.futures.ThreadPoolExecutor(1, "search") as thread:
            try:
                while True:
                    await self._come.wait()
                    self._come.clear()
                    while batch := self._next_batch():
                        await self._answer_batch(batch, thread)
            finally:
                for one in self._waiting:
                    _set(one.answer, RefusalError(503, "The server is stopping."))

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._size:
            one = self._waiting.popleft()
            if not one.answer.done():  # nobody waits for it any more
                batch.append(one)
        return batch

    async def _answer_batch(
        self, batch: list[_Waiting], thread: concurrent.futures.Executor
    ) -> None:
        self._told(len(batch))
        questions: list[Any] = [one.question for one in batch]
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(thread, self._answer, questions)
        except asyncio.CancelledError:
            for one in batch:
                _set(one.answer, RefusalError(503, "The server is stopping."))
            raise
        except Exception as error:
            if len(batch) == 1:
                _set(batch[0].answer, error)
                return
            for one in batch:  # so that one client's trouble is not that of the others
                await self._answer_batch([one], thread)
            return
        for one, answer in zip(batch, answers, strict=True):
            with contextlib.suppress(asyncio.InvalidStateError):
                one.answer.set_result(answer)


def _set(future: asyncio.Future, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
