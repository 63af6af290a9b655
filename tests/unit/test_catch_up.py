"""What was missed is read down to the cursor, by endpoints that a test scripts, with a real journal."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from solders.pubkey import Pubkey
from solders.signature import Signature

from listener.alarms import Alarm
from listener.catch_up import CatchUp
from listener.chain.answers import SignatureRow, Status, Statuses
from listener.chain.rpc import MAX_SIGNATURES
from listener.journal.changes import SetCondition
from listener.journal.journal import Journal
from listener.journal.records import Cursor, Gap, PageMark
from listener.journal.states import ConditionName
from shared.errors import RpcInvalid, RpcRateLimited, RpcUnavailable
from shared.ids import Slot, UnixSeconds
from tests.unit.journal_rows import computed, signature
from tests.unit.listener_world import FixedClock, endpoints_of

NODE = Pubkey([1] * 32)


def name(number: int) -> Signature:
    return Signature(number.to_bytes(64, "big"))


def number_of(row: SignatureRow) -> int:
    return int.from_bytes(bytes(row.signature), "big")


def cursor(number: int) -> Cursor:
    return Cursor(str(name(number)), Slot(number))


class Provider:
    """Signatures 1 to `newest`, each in the slot of its number, finalized up to `final`, kept from `oldest` on."""

    def __init__(self, newest: int, final: int | None = None, oldest: int = 1) -> None:
        self.newest = newest
        self.final = newest if final is None else final
        self.oldest = oldest
        self.faults: list[Exception] = []
        self.forgotten: set[Signature] = set()
        self.tells_finality = True
        self.asked: list[tuple[int | None, int, str]] = []

    def _known(self, signature: Signature) -> bool:
        number = int.from_bytes(bytes(signature), "big")
        return self.oldest <= number <= self.newest and signature not in self.forgotten

    async def get_signatures_for_address(
        self,
        address: Pubkey,
        *,
        before: Signature | None = None,
        limit: int = MAX_SIGNATURES,
        commitment: str = "confirmed",
    ) -> list[SignatureRow]:
        assert address == NODE
        mark = None if before is None else int.from_bytes(bytes(before), "big")
        self.asked.append((mark, limit, commitment))
        if self.faults:
            raise self.faults.pop(0)
        if before is not None and not self._known(before):
            return []
        top = (self.final if commitment == "finalized" else self.newest) if mark is None else mark - 1
        numbers = range(top, self.oldest - 1, -1)
        return [
            SignatureRow(
                name(one), Slot(one), None, UnixSeconds(one * 10), self.tells_finality and one <= self.final
            )
            for one in numbers[:limit]
        ]

    async def get_signature_statuses(self, signatures: Sequence[Signature], search_history: bool) -> Statuses:
        assert search_history
        known = [Status(Slot(1), None, "finalized") if self._known(one) else None for one in signatures]
        return Statuses(Slot(self.newest), tuple(known))

    async def get_slot(self, _commitment: str) -> int:
        return self.final


class Reader:
    """Stands in for the mentions."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.faults: dict[int, Exception] = {}
        self.at_once = self.most_at_once = 0

    async def on_listed(self, row: SignatureRow) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if number_of(row) in self.faults:
            raise self.faults.pop(number_of(row))
        self.read.append(number_of(row))


class Behind:
    """A node whose cursor is somewhere, and providers that know more."""

    def __init__(self, journal: Journal, *providers: Provider) -> None:
        self.journal = journal
        self.providers = providers
        self.can_list = True
        self.listed = 0
        self.oldest_s = 0
        self.reader = Reader()
        self.start()

    def start(self) -> None:
        """As a new process does."""
        mentions: Any = self.reader
        endpoints = endpoints_of(*self.providers)
        self.catch_up = CatchUp(endpoints, NODE, self.journal, mentions, self._list, self._oldest, FixedClock())

    async def _list(self) -> bool:
        self.listed += 1
        return self.can_list

    async def _oldest(self) -> UnixSeconds:
        return UnixSeconds(self.oldest_s)

    async def run(self) -> list[int]:
        """What this run reads."""
        self.reader.read = []
        await self.catch_up.run()
        return self.reader.read


@asynccontextmanager
async def behind(tmp_path: Path, *providers: Provider, at: int | None) -> AsyncIterator[Behind]:
    journal = Journal(tmp_path / "journal.sqlite")
    if at is not None:
        await journal.apply(cursor(at))
    yield Behind(journal, *providers)
    journal.close()


def down(newest: int, oldest: int) -> list[int]:
    return list(range(newest, oldest - 1, -1))


async def test_what_is_above_the_cursor_is_read_and_the_cursor_moves_to_what_is_final(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(60, final=50), at=40) as node:
        assert sorted(await node.run(), reverse=True) == down(60, 41)
        assert await node.journal.cursor() == cursor(50)
        assert sorted(await node.run(), reverse=True) == down(60, 51)  # until they are final too


@pytest.mark.parametrize(("tells_finality", "questions"), [(True, 1), (False, 3)])
async def test_where_nothing_is_new_one_question_is_enough_of_a_server_that_tells_what_is_final(
    tmp_path: Path, tells_finality: bool, questions: int
) -> None:
    provider = Provider(40)
    provider.tells_finality = tells_finality
    async with behind(tmp_path, provider, at=40) as node:
        assert await node.run() == []
        asked = len(provider.asked)
        assert await node.run() == []
        assert len(provider.asked) - asked == questions and await node.journal.cursor() == cursor(40)


@pytest.mark.parametrize("count", [3_000, 10_000])
async def test_however_far_behind_every_page_is_read(tmp_path: Path, count: int) -> None:
    provider = Provider(count + 10)
    async with behind(tmp_path, provider, at=10) as node:
        assert sorted(await node.run(), reverse=True) == down(count + 10, 11)
        assert await node.journal.cursor() == cursor(count + 10) and await node.journal.page_mark() is None
        assert len(provider.asked) == 1 + count // MAX_SIGNATURES
        assert node.reader.most_at_once > 1


async def test_a_restart_goes_on_where_it_was_and_then_reads_what_came_meanwhile(tmp_path: Path) -> None:
    provider = Provider(3_010)
    async with behind(tmp_path, provider, at=10) as node:
        node.reader.faults[1_500] = RpcUnavailable("reset")
        with pytest.raises(RpcUnavailable):
            await node.run()
        assert await node.journal.page_mark() == PageMark(cursor(1_911), cursor(3_010))
        assert await node.journal.cursor() == cursor(10)
        node.start()
        provider.newest = provider.final = 3_020
        assert sorted(await node.run(), reverse=True) == [*down(3_020, 3_011), *down(1_910, 11)]
        assert await node.journal.cursor() == cursor(3_020) and await node.journal.page_mark() is None


async def test_a_page_that_is_not_final_is_no_mark(tmp_path: Path) -> None:
    provider = Provider(1_200, final=500)
    async with behind(tmp_path, provider, at=10) as node:
        node.reader.faults[1_050] = RpcUnavailable("reset")
        with pytest.raises(RpcUnavailable):
            await node.run()
        assert await node.journal.page_mark() is None


async def test_the_cursor_stays_while_one_transaction_cannot_be_read_and_the_others_are(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(20), at=10) as node:
        node.reader.faults[15] = RpcUnavailable("reset")
        with pytest.raises(RpcUnavailable):
            await node.run()
        assert sorted(node.reader.read) == [*range(11, 15), *range(16, 21)]
        assert await node.journal.cursor() == cursor(10)


async def test_our_own_transactions_are_not_read(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(20), at=10) as node:
        task = await computed(node.journal)
        await node.journal.apply(signature(task, str(name(15))))
        assert sorted(await node.run()) == [*range(11, 15), *range(16, 21)]


async def test_another_endpoint_goes_on_where_one_fails(tmp_path: Path) -> None:
    first, second = Provider(2_010), Provider(2_010)
    async with behind(tmp_path, first, second, at=10) as node:
        first.faults = [RpcRateLimited("429", 1.0), RpcUnavailable("503"), RpcUnavailable("503")]
        assert sorted(await node.run(), reverse=True) == down(2_010, 11)
        assert second.asked


async def test_an_endpoint_that_does_not_know_the_mark_is_passed_by_for_one_that_does(tmp_path: Path) -> None:
    first, second = Provider(2_010), Provider(2_010)
    async with behind(tmp_path, first, second, at=10) as node:
        first.forgotten = {name(1_911)}
        assert sorted(await node.run(), reverse=True) == down(2_010, 11)
        assert (1_911, MAX_SIGNATURES, "confirmed") in second.asked


async def test_where_nobody_knows_the_mark_paging_begins_again_from_the_top(tmp_path: Path) -> None:
    provider = Provider(3_010)
    async with behind(tmp_path, provider, at=10) as node:
        await node.journal.apply(PageMark(cursor(2_000), cursor(2_500)))
        provider.forgotten = {name(2_000)}
        assert sorted(await node.run(), reverse=True) == down(3_010, 11)
        assert await node.journal.cursor() == cursor(3_010) and node.listed == 0


async def test_one_that_forgets_its_own_rows_again_and_again_is_invalid(tmp_path: Path) -> None:
    provider = Provider(3_010)
    async with behind(tmp_path, provider, at=10) as node:
        provider.forgotten = {name(number) for number in range(3_011)}
        with pytest.raises(RpcInvalid, match="its own rows"):
            await node.run()
        assert await node.journal.cursor() == cursor(10)


async def test_a_list_that_does_not_show_what_is_final_moves_no_cursor(tmp_path: Path) -> None:
    """As where a provider's machines are not alike."""
    provider = Provider(30)
    provider.tells_finality = False
    async with behind(tmp_path, provider, at=10) as node:
        listed = provider.get_signatures_for_address

        async def behind_itself(address: Pubkey, **options: Any) -> list[SignatureRow]:
            rows = await listed(address, **options)
            is_final = options.get("commitment") == "finalized"
            return rows if is_final else [row for row in rows if row.slot < 25]

        provider.get_signatures_for_address = behind_itself  # type: ignore[method-assign]
        with pytest.raises(RpcUnavailable, match="does not show"):
            await node.run()
        assert await node.journal.cursor() == cursor(10)


async def test_an_endpoint_that_lags_behind_the_cursor_moves_nothing(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(30), at=40) as node:
        assert await node.run() == []
        assert await node.journal.cursor() == cursor(40)


# History that is gone.


async def test_where_one_has_lost_its_history_another_is_asked(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(500, oldest=300), Provider(500), at=10) as node:
        assert sorted(await node.run(), reverse=True) == down(500, 11)
        assert await node.journal.gaps() == [] and node.listed == 0


async def test_where_nobody_has_it_the_live_accounts_are_listed_and_the_gap_is_alarmed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with behind(tmp_path, Provider(500, oldest=300), at=10) as node:
        assert sorted(await node.run(), reverse=True) == down(500, 300)
        assert node.listed == 1
        assert await node.journal.gaps() == [Gap(Slot(10), Slot(300))]
        assert await node.journal.cursor() == cursor(500) and await node.journal.page_mark() is None
        assert [line.message for line in caplog.records if line.levelname == "ERROR"] == [Alarm.HISTORY_GAP]
        assert await node.run() == []
        assert len(await node.journal.gaps()) == 1


async def test_where_listing_is_refused_too_intake_halts_and_keeps_the_cursor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider(500, oldest=300)
    async with behind(tmp_path, provider, at=10) as node:
        node.can_list = False
        for _ in range(3):
            await node.run()
        assert await node.journal.cursor() == cursor(10) and await node.journal.gaps() == []
        halted = (await node.journal.conditions())[ConditionName.HALTED]
        assert "slot 10" in halted.value and halted.value == node.catch_up.halted
        assert [line.message for line in caplog.records if line.levelname == "ERROR"] == [Alarm.INTAKE_HALTED]
        provider.oldest = 1
        assert sorted(await node.run(), reverse=True) == down(299, 11)
        assert node.catch_up.halted is None and ConditionName.HALTED not in await node.journal.conditions()


async def test_a_halt_of_an_earlier_process_ends_with_the_first_round_that_is_complete(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(20), at=10) as node:
        await node.journal.apply(SetCondition(ConditionName.HALTED, "nothing could be read"))
        await node.run()
        assert ConditionName.HALTED not in await node.journal.conditions()


async def test_who_was_up_to_date_misses_nothing_where_old_history_goes(tmp_path: Path) -> None:
    """An idle node's cursor is old, and its provider keeps less."""
    provider = Provider(40)
    async with behind(tmp_path, provider, at=40) as node:
        await node.run()
        provider.oldest, provider.newest, provider.final = 41, 41, 41
        assert await node.run() == [41]
        assert await node.journal.cursor() == cursor(41) and await node.journal.gaps() == []


async def test_an_address_of_which_nothing_is_kept_any_more_is_a_gap_once(tmp_path: Path) -> None:
    provider = Provider(40, oldest=41)
    async with behind(tmp_path, provider, at=10) as node:
        for _ in range(2):
            assert await node.run() == []
        assert await node.journal.gaps() == [Gap(Slot(10), Slot(40))]


# The first start, where accounts cannot be listed.


async def test_without_a_cursor_only_what_is_not_older_than_a_day_is_read(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(500), at=None) as node:
        node.oldest_s = 10 * 450
        assert sorted(await node.run(), reverse=True) == down(500, 450)
        assert await node.journal.cursor() == cursor(500)


async def test_without_a_cursor_the_end_of_the_history_is_the_end(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(150), at=None) as node:
        assert sorted(await node.run(), reverse=True) == down(150, 1)
        assert await node.journal.cursor() == cursor(150) and await node.journal.gaps() == []


async def test_an_address_that_nobody_ever_mentioned_has_no_cursor(tmp_path: Path) -> None:
    async with behind(tmp_path, Provider(0), at=None) as node:
        assert await node.run() == []
        assert await node.journal.cursor() is None
