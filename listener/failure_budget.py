"""The day's fees for telling failures and refusals. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from listener.journal.changes import Spend
from listener.settings import JournalSettings
from shared.ids import Day

FAILURES: Final = "failures"
OF_NEWCOMERS: Final = "failures:newcomers"
"""The part of it that requesters without a paid history share: their keys are free."""
FAILURE_BUDGET_SPENT: Final = "FailureBudgetSpent"


@dataclass(frozen=True, slots=True)
class FailureBudget:
    """Lamports a day."""

    total: int
    of_newcomers: int

    @classmethod
    def of(cls, settings: JournalSettings) -> "FailureBudget":
        total = settings.failure_budget_lamports
        return cls(total, int(total * settings.newcomer_budget_share))

    def spends(self, day: Day, fee: int, is_newcomer: bool) -> tuple[Spend, ...]:
        """What is taken out together with the signature."""
        taken = [Spend(day, FAILURES, fee, self.total)]
        if is_newcomer:
            taken.append(Spend(day, OF_NEWCOMERS, fee, self.of_newcomers))
        return tuple(taken)


def is_within(spends: tuple[Spend, ...], spent: Mapping[str, int]) -> bool:
    """Whether the day's budgets, of which `spent` is gone, hold all of it."""
    return all(one.limit is None or spent.get(one.name, 0) + one.amount <= one.limit for one in spends)
