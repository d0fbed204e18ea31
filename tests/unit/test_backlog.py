"""How batches are cut: nothing lost, nothing twice, the oldest first, the budget kept."""

import asyncio
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from worker.backlog import MAX_PADDING_TOKENS, Backlog, batch_window

lengths = st.lists(st.integers(1, 600), min_size=1, max_size=60)


@dataclass(frozen=True)
class Text:
    number: int
    tokens: int


async def cut_all(backlog: Backlog[Text]) -> list[list[Text]]:
    batches = []
    while batch := await backlog.cut():
        batches.append(batch)
    return batches


def filled(tokens: list[int], max_batch_tokens: int) -> Backlog[Text]:
    backlog: Backlog[Text] = Backlog(max_batch_tokens)
    backlog.put(Text(number, count) for number, count in enumerate(tokens))
    backlog.close()
    return backlog


@given(lengths, st.integers(1, 1024), st.data())
def test_a_window_keeps_the_budget_and_cannot_grow(tokens: list[int], budget: int, data: st.DataObject) -> None:
    """A batch fits, unless it is one oversized text; neither neighbour would fit as well, or pad little enough."""
    ascending = sorted((count, number) for number, count in enumerate(tokens))
    start = data.draw(st.integers(0, len(ascending) - 1))
    window = batch_window(ascending, start, budget)
    assert start in window
    longest = ascending[window.stop - 1][0]
    assert len(window) == 1 or longest * len(window) <= budget
    if window.start > 0:
        padding = longest - ascending[window.start - 1][0]
        assert longest * (len(window) + 1) > budget or padding > MAX_PADDING_TOKENS
    if window.stop < len(ascending):
        longer = ascending[window.stop][0]
        assert longer * (len(window) + 1) > budget or (longer - longest) * len(window) > MAX_PADDING_TOKENS


async def test_few_texts_of_different_lengths_are_not_padded_to_the_longest() -> None:
    """While little waits, a short text does not cost as much as a long one."""
    batches = await cut_all(filled([60, 9, 10, 8, 55], 512))
    assert [[text.tokens for text in batch] for batch in batches] == [[55, 60], [8, 9, 10]]


@given(lengths, st.integers(1, 1024))
def test_every_text_is_cut_once_and_the_oldest_is_never_left(tokens: list[int], budget: int) -> None:
    """All texts come out exactly once, and each batch holds the oldest that was waiting."""
    batches = asyncio.run(cut_all(filled(tokens, budget)))
    assert sorted(text.number for batch in batches for text in batch) == list(range(len(tokens)))
    waiting = set(range(len(tokens)))
    for batch in batches:
        numbers = {text.number for text in batch}
        assert min(waiting) in numbers
        waiting -= numbers


async def test_equal_lengths_leave_in_order_of_arrival() -> None:
    """Among texts of one length the older go first."""
    batches = await cut_all(filled([10] * 5, 20))
    assert [[text.number for text in batch] for batch in batches] == [[0, 1], [2, 3], [4]]


async def test_cut_waits_for_a_text_and_ends_when_closed() -> None:
    """A waiting slot gets the first text there is; closing ends the others."""
    backlog: Backlog[Text] = Backlog(100)
    async with asyncio.TaskGroup() as tasks:
        cuts = [tasks.create_task(backlog.cut()) for _ in range(2)]
        backlog.put([Text(0, 5)])
        backlog.close()
    assert sorted((cut.result() for cut in cuts), key=bool) == [None, [Text(0, 5)]]


async def test_discarded_texts_are_never_cut() -> None:
    """What a lost partition left behind is not scored."""
    backlog = filled([5, 6, 7, 8], 1000)
    backlog.discard(lambda text: text.number % 2 == 0)
    assert [[text.number for text in batch] for batch in await cut_all(backlog)] == [[1, 3]]
