"""Questions that come together are answered together, and one that is wrong harms no other."""

import asyncio
import threading

import pytest

from vlmo_jax.search.server.batching import Batcher
from vlmo_jax.search.server.limits import RefusalError


class Slow:
    """Answers with the square once it may."""

    def __init__(self):
        self.may, self.batches = threading.Event(), []

    def __call__(self, questions):
        assert self.may.wait(10)
        self.batches.append(list(questions))
        if "bad" in questions:
            raise ValueError("bad")
        return [question**2 for question in questions]


def run(asking, **options):
    """What `asking` returns, a coroutine function of a batcher, and the sizes of the batches."""
    slow, sizes = Slow(), []
    settings = dict(size=4, waiting=6, seconds=10, told=sizes.append) | options

    async def both():
        batcher = Batcher(slow, **settings)
        work = asyncio.create_task(batcher.work())
        try:
            return await asking(batcher, slow)
        finally:
            slow.may.set()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    return asyncio.run(both()), sizes


async def ask_all(batcher, slow, questions):
    tasks = [asyncio.create_task(batcher.ask(questions[0]))]
    await asyncio.sleep(0.05)  # it is under way
    tasks += [asyncio.create_task(batcher.ask(question)) for question in questions[1:]]
    await asyncio.sleep(0.05)
    slow.may.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_answered_together():
    answers, sizes = run(lambda batcher, slow: ask_all(batcher, slow, range(7)))
    assert answers == [0, 1, 4, 9, 16, 25, 36] and sizes == [1, 4, 2]


def test_more_than_may_wait_are_refused_and_told_when_to_come_again():
    answers, _ = run(lambda batcher, slow: ask_all(batcher, slow, range(9)))
    assert answers[:7] == [0, 1, 4, 9, 16, 25, 36]
    assert [(one.status, one.headers) for one in answers[7:]] == [(503, {"Retry-After": "1"})] * 2


def test_a_wrong_question_spoils_no_other():
    answers, _ = run(lambda batcher, slow: ask_all(batcher, slow, [1, 2, "bad", 3]))
    assert answers[:2] == [1, 4] and answers[3] == 9
    assert isinstance(answers[2], ValueError)


def test_what_nobody_waits_for_is_not_answered():
    async def asking(batcher, slow):
        first = asyncio.create_task(batcher.ask(1))
        await asyncio.sleep(0.05)
        given_up = asyncio.create_task(batcher.ask(2))
        await asyncio.sleep(0.05)
        given_up.cancel()
        last = asyncio.create_task(batcher.ask(3))
        await asyncio.sleep(0.05)
        slow.may.set()
        return await first, await last, slow.batches

    (first, last, batches), _ = run(asking)
    assert (first, last, batches) == (1, 9, [[1], [3]])


def test_a_question_is_given_up_after_a_while():
    async def asking(batcher, slow):
        with pytest.raises(RefusalError, match=r"No answer within 0.1 s") as refused:
            await batcher.ask(1)
        return refused.value.status

    assert run(asking, seconds=0.1)[0] == 503


def test_who_waits_when_it_ends_is_told():
    async def asking(batcher, slow):
        tasks = [asyncio.create_task(batcher.ask(number)) for number in range(3)]
        await asyncio.sleep(0.05)
        return tasks

    async def ended():
        slow = Slow()
        batcher = Batcher(slow, size=1, waiting=6, seconds=10, told=lambda size: None)
        work = asyncio.create_task(batcher.work())
        tasks = await asking(batcher, slow)
        slow.may.set()
        work.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert {one.text for one in asyncio.run(ended())} == {"The server is stopping."}
