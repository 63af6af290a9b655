"""One pair, its requester, its node and a stranger on a chain of their own, put into the state a test needs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from tests.program.chain import Chain
from tests.program.instructions import Assignment, Builder, Head

NOTICE_S = 30
GRACE_S = 60
MAX_DEADLINE_S = 30 * 24 * 60 * 60


@dataclass
class World:
    chain: Chain = field(default_factory=Chain)
    assignment: Assignment = field(default_factory=Assignment)

    def __post_init__(self) -> None:
        self.requester, self.node, self.stranger = (self.chain.wallet() for _ in range(3))
        self.pair = Builder(self.chain.program_id, self.requester.pubkey(), self.node.pubkey())

    @property
    def account(self) -> Account:
        account = self.chain.account(self.pair.address)
        assert account is not None
        return account

    @property
    def head(self) -> Head:
        return Head.read(self.account.data)

    def assign(self, **terms: object) -> None:
        assignment = replace(self.assignment, **terms)
        self.chain.accepted(self.pair.assign_task(assignment), self.requester)

    def cancel(self) -> None:
        self.chain.accepted(self.pair.cancel_execution(), self.requester)

    def complete(self) -> None:
        self.chain.accepted(self.pair.task_completed(self.head.attempt), self.node)

    def fail(self) -> None:
        self.chain.accepted(self.pair.task_failed(self.head.attempt), self.node)

    def reclaim(self) -> None:
        self.chain.accepted(self.pair.reclaim(), self.requester)

    def instruction(self, name: str) -> Instruction:
        """The instruction as its rightful sender would send it now."""
        attempt = self.head.attempt if self.chain.account(self.pair.address) else self.chain.slot
        ahead = replace(self.assignment, deadline=max(self.assignment.deadline, self.chain.now + 100))
        return {
            "assign_task": lambda: self.pair.assign_task(ahead),
            "cancel_execution": self.pair.cancel_execution,
            "task_completed": lambda: self.pair.task_completed(attempt),
            "task_failed": lambda: self.pair.task_failed(attempt),
            "reclaim": self.pair.reclaim,
        }[name]()

    def signer(self, name: str) -> Keypair:
        return self.node if name in ("task_completed", "task_failed") else self.requester

    def rewrite(self, change: Callable[[bytearray], None], lamports: int | None = None) -> None:
        """Change the account's bytes behind the program's back."""
        account = self.account
        changed = bytearray(account.data)
        change(changed)
        kept = account.lamports if lamports is None else lamports
        self.chain.svm.set_account(self.pair.address, Account(kept, bytes(changed), account.owner))

    def held(self) -> dict[str, int]:
        """Lamports by name; what is missing in the sum went to fees."""
        names = ("requester", "node", "stranger")
        wallets = {name: self.chain.lamports(getattr(self, name).pubkey()) for name in names}
        return {"execution": self.chain.lamports(self.pair.address), **wallets}


INSTRUCTIONS = ("assign_task", "cancel_execution", "task_completed", "task_failed", "reclaim")


def past_the_deadline(world: World, seconds: int) -> None:
    world.assign()
    world.chain.pass_time(world.assignment.deadline + seconds - world.chain.now)


def cancelled(world: World, seconds: int) -> None:
    world.assign()
    world.cancel()
    world.chain.pass_time(seconds)


def failed(world: World) -> None:
    world.assign()
    world.fail()
    world.chain.pass_time(1)


def completed(world: World) -> None:
    world.assign()
    world.complete()
    world.chain.pass_time(1)


def closed(world: World) -> None:
    completed(world)
    world.reclaim()
    world.chain.pass_time(1)


def cancelled_over_the_deadline(world: World) -> None:
    past_the_deadline(world, -5)
    world.cancel()
    world.chain.pass_time(10)


SITUATIONS: dict[str, Callable[[World], None]] = {
    "never assigned": lambda _: None,
    "assigned": lambda world: past_the_deadline(world, -1),
    "at the deadline": lambda world: past_the_deadline(world, 0),
    "past the deadline": lambda world: past_the_deadline(world, 1),
    "at the end of the grace": lambda world: past_the_deadline(world, GRACE_S),
    "past the grace": lambda world: past_the_deadline(world, GRACE_S + 1),
    "in notice": lambda world: cancelled(world, NOTICE_S - 1),
    "notice over": lambda world: cancelled(world, NOTICE_S),
    "in notice past the deadline": cancelled_over_the_deadline,
    "failed": failed,
    "completed": completed,
    "closed": closed,
}


def with_account(instruction: Instruction, index: int, **change: Pubkey | bool) -> Instruction:
    """A copy whose account at `index` has another pubkey, is_signer or is_writable."""
    accounts = list(instruction.accounts)
    meta = accounts[index]
    accounts[index] = AccountMeta(
        change.get("pubkey", meta.pubkey),
        bool(change.get("is_signer", meta.is_signer)),
        bool(change.get("is_writable", meta.is_writable)),
    )
    return Instruction(instruction.program_id, instruction.data, accounts)


def with_data(instruction: Instruction, data: bytes) -> Instruction:
    return Instruction(instruction.program_id, data, list(instruction.accounts))
