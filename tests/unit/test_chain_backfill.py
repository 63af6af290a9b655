from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.chain.answers import SignatureRow, Status, Statuses
from listener.chain.backfill import MAX_RESTARTS, signatures_since
from listener.chain.rpc import MAX_SIGNATURES, Commitment
from shared.errors import RpcInvalid
from shared.ids import Slot

NODE = Pubkey([1] * 32)


def name(number: int) -> Signature:
    return Signature(number.to_bytes(64, "big"))


def row(number: int, slot: int | None = None) -> SignatureRow:
    return SignatureRow(name(number), Slot(number if slot is None else slot), None)


@dataclass
class Lists:
    """An endpoint with a history, newest first. It answers nothing to a `before` that it does not know."""

    rows: list[SignatureRow]
    forgets: int = 0
    """So many pages with a `before` that it knows are empty all the same."""
    statuses_forgotten: bool = True
    """What it forgot has no status either."""
    ignores_before: bool = False
    asked: list[tuple[Signature | None, int, str]] = field(default_factory=list)
    _forgot: bool = False

    async def get_signatures_for_address(
        self,
        address: Pubkey,
        *,
        before: Signature | None = None,
        limit: int = MAX_SIGNATURES,
        commitment: Commitment = "confirmed",
    ) -> list[SignatureRow]:
        assert address == NODE
        self.asked.append((before, limit, commitment))
        names = [one.signature for one in self.rows]
        self._forgot = before is not None and self.forgets > 0
        if self._forgot:
            self.forgets -= 1
            return []
        start = 0
        if before is not None and not self.ignores_before:
            if before not in names:
                return []
            start = names.index(before) + 1
        return self.rows[start:][:limit]

    async def get_signature_statuses(self, signatures: Sequence[Signature], search_history: bool) -> Statuses:
        assert search_history
        known = {one.signature for one in self.rows}
        forgot = self._forgot and self.statuses_forgotten
        found = [None if forgot or one not in known else Status(Slot(1), None, "confirmed") for one in signatures]
        return Statuses(Slot(99), tuple(found))


async def pages(lists: Lists, until_slot: int, page_size: int = 3) -> list[list[int]]:
    found = signatures_since(lists, NODE, Slot(until_slot), page_size=page_size)
    return [[int.from_bytes(bytes(one.signature), "big") for one in page] async for page in found]


def history(*numbers: int) -> list[SignatureRow]:
    return [row(number) for number in numbers]


async def test_pages_go_from_the_newest_to_the_slot() -> None:
    lists = Lists(history(*range(20, 0, -1)))
    assert await pages(lists, 13) == [[20, 19, 18], [17, 16, 15], [14, 13]]
    assert lists.asked == [(before, 3, "confirmed") for before in (None, name(18), name(15))]


async def test_from_slot_0_on_all_is_read() -> None:
    assert await pages(Lists(history(*range(7, 0, -1))), 0) == [[7, 6, 5], [4, 3, 2], [1]]


@pytest.mark.parametrize("count", [0, 3, 6])
async def test_a_history_that_ends_with_a_page_is_asked_once_more(count: int) -> None:
    lists = Lists(history(*range(count, 0, -1)))
    assert list(chain.from_iterable(await pages(lists, 0))) == list(range(count, 0, -1))
    assert len(lists.asked) == count // 3 + 1


async def test_nothing_new_is_no_page() -> None:
    lists = Lists(history(5, 4, 3))
    assert await pages(lists, 6) == []
    assert len(lists.asked) == 1


async def test_rows_below_the_slot_are_never_given() -> None:
    assert await pages(Lists([row(9), row(3), row(8), row(2)]), 7, page_size=10) == [[9, 8]]


async def test_a_mark_that_the_server_has_forgotten_begins_again_from_the_top() -> None:
    lists = Lists(history(*range(8, 0, -1)), forgets=1)
    assert await pages(lists, 2) == [[8, 7, 6], [8, 7, 6], [5, 4, 3], [2]]
    assert [before for before, *_ in lists.asked] == [None, name(6), None, name(6), name(3)]


async def test_an_empty_page_after_a_mark_that_is_known_is_the_end() -> None:
    lists = Lists(history(8, 7, 6, 5), forgets=1, statuses_forgotten=False)
    assert await pages(lists, 0) == [[8, 7, 6]]


async def test_a_server_that_keeps_forgetting_is_invalid() -> None:
    lists = Lists(history(*range(8, 0, -1)), forgets=100)
    with pytest.raises(RpcInvalid, match=f"{MAX_RESTARTS + 1} times"):
        await pages(lists, 2)
    assert len(lists.asked) == 2 * (MAX_RESTARTS + 1)


@pytest.mark.parametrize("rows", [history(*range(8, 0, -1)), [row(number, 5) for number in range(8, 0, -1)]])
async def test_a_server_that_does_not_go_back_is_invalid(rows: list[SignatureRow]) -> None:
    lists = Lists(rows, ignores_before=True)
    with pytest.raises(RpcInvalid, match="does not go back"):
        await pages(lists, 2)
    assert len(lists.asked) == 2


class Busy(Lists):
    """Between two questions a page of newer rows came, and `before` is ignored."""

    async def get_signatures_for_address(self, address: Pubkey, **options: object) -> list[SignatureRow]:
        newest = self.rows[0].slot
        self.rows = [*history(newest + 3, newest + 2, newest + 1), *self.rows]
        return await super().get_signatures_for_address(address, **{**options, "before": None})


async def test_a_server_that_goes_forward_instead_is_invalid() -> None:
    lists = Busy(history(8, 7, 6))
    with pytest.raises(RpcInvalid, match="does not go back"):
        await pages(lists, 2)
    assert len(lists.asked) == 2
