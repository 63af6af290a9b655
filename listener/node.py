"""The listener's parts, put together: intake, tasks, lander and settlement around one journal."""

import asyncio
import logging

from solders.keypair import Keypair

from listener.chain.account_reader import AccountReader
from listener.chain.agreement import Agreement
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.chain.lander import Lander
from listener.chain.rpc import Commitment
from listener.chain.tip import Tip
from listener.chain.when_to_ask import Pace
from listener.chain_clock import ChainClock
from listener.compute_client import ComputeClient
from listener.drain import Drain
from listener.health import Checks
from listener.housekeeping import keep_house
from listener.intake import Intake
from listener.intake_gate import IntakeGate
from listener.journal.journal import Journal
from listener.journal.states import UNSIGNED, IntakeState, State
from listener.look import AccountLook, Look
from listener.look_by_transactions import TransactionLook
from listener.looks import Looks
from listener.market import Market, PriceTerms
from listener.observe import Observer
from listener.outside import Outside
from listener.purse import Purse
from listener.readiness import readiness_checks
from listener.reconcile import reconcile_for_ever
from listener.requests import Requests
from listener.rules import Rules
from listener.settings import ListenerSettings
from listener.settlement import Settlement
from listener.signing import Signer, SigningTerms
from listener.steps import Steps, owes, signs
from listener.submission import Submission, Terms
from listener.tasks import Surroundings, TaskRunner
from listener.treasury import Treasury, TreasuryTerms
from listener.unit_meter import UnitMeter

log = logging.getLogger("listener.node")


class Node:
    def __init__(
        self, settings: ListenerSettings, key: Keypair, program: Program, outside: Outside, journal: Journal
    ) -> None:
        self.address = str(key.pubkey())
        self.journal = journal
        self._settings, self._program = settings, program
        self._clock = clock = outside.clock
        rng = outside.rng
        self._endpoints = endpoints = Endpoints.at(
            settings.rpc_url, outside.rpc_http, settings.rpc_requests_per_s, clock, rng
        )
        self._agreement = agreement = Agreement(endpoints, clock)
        self._compute = ComputeClient(outside.compute_http)
        self._reader = AccountReader()
        chain_clock = ChainClock(self._chain_time, clock)
        self._steps = steps = Steps(journal, chain_clock.known)
        look: Look = AccountLook(agreement, program, key.pubkey(), self._reader)
        if program.by_transactions is not None:
            look = TransactionLook(agreement, program, key.pubkey(), journal)
        tip = Tip(clock)
        market = Market(endpoints, PriceTerms.of(settings), tip.seconds_per_slot, clock)
        meter = UnitMeter(endpoints, program, key.pubkey(), is_reference_program=settings.idl is None)
        purse = Purse(agreement, journal, key.pubkey(), clock)
        self._treasury = Treasury(agreement, market, purse, key, steps, TreasuryTerms.of(settings), clock)
        signer = Signer(agreement, market, meter, purse, program, key, steps, SigningTerms.of(settings))
        observer = Observer(look, Rules.of(settings), chain_clock, steps, self._treasury.takes)
        submission = Submission(agreement, program, signer, observer, chain_clock, steps, Terms.of(settings))
        surroundings = Surroundings(
            steps=steps,
            compute=self._compute,
            chain_clock=chain_clock,
            landing_margin_s=settings.landing_margin_s,
            max_unpaid_a_day=settings.max_unpaid_a_day,
            submit=submission.submit,
            look_again=observer.look_again,
        )
        self._runner = TaskRunner(surroundings, rng)
        self._lander = Lander(endpoints, agreement, program, steps, Pace.of(settings), tip, clock)
        self._settlement = Settlement(steps, self._compute, look, self._final_time, clock)
        looks = Looks(observer, clock, rng)
        self._gate = IntakeGate(steps)
        self._requests = Requests(steps, self._gate, clock)
        self._drain = Drain(steps, self._compute, looks, clock)
        self.drained = asyncio.Event()
        """Set at the end of a drain: there is nothing left to do."""
        self._intake = Intake(
            endpoints,
            program,
            key.pubkey(),
            looks,
            steps,
            chain_clock,
            settings,
            outside,
            tip,
            self._lander.notices,
        )
        steps.tell(self._runner.changed)
        steps.tell(self._lander.changed, signs)
        steps.tell(self._settlement.changed, owes)
        self._intake_life: asyncio.Task[None] | None = None
        self._is_closed = False
        self.checks = Checks(
            readiness_checks(
                self._intake,
                self._gate,
                tip,
                endpoints,
                agreement,
                journal,
                self._compute,
                self._treasury,
                settings,
            )
        )

    async def live(self) -> None:
        """Until cancelled. Raises WrongCluster, or ConfigurationError where the journal is of another cluster."""
        await self._gate.load()
        await self._requests.answer()  # what was asked while the listener was down comes before any step of a task
        await self._check_cluster()
        lives = {
            IntakeState.OPEN: self._take_in,
            IntakeState.DRAINING: self._drain_all,
            IntakeState.DRAINED: self._stay_idle,
        }
        async with asyncio.TaskGroup() as group:
            if not self._is_closed:
                self._intake_life = group.create_task(self._gate.live(lives))
            group.create_task(self._requests.run())
            group.create_task(self._runner.run())
            group.create_task(self._lander.run())
            group.create_task(self._settlement.run())
            days = self._settings.history_days
            group.create_task(keep_house(self.journal, self._final_time, days, self._clock))
            group.create_task(self._treasury.run(self._intake.list_again))

    async def _take_in(self) -> None:
        self._runner.drive_only(UNSIGNED)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._intake.run())
            await self._intake.listed.wait()
            group.create_task(reconcile_for_ever(self._compute, self.journal, self._clock))

    async def _drain_all(self) -> None:
        self._runner.drive_only(UNSIGNED - {State.ACCEPTED})
        await self._drain.run()
        if await self._gate.turn(IntakeState.DRAINING, IntakeState.DRAINED):
            self.drained.set()

    async def _stay_idle(self) -> None:
        log.info("drained: nothing is taken until splitup-node resume")

    def close_intake(self) -> None:
        """Nothing new is taken; only what is computed goes further."""
        self._is_closed = True
        if self._intake_life is not None:
            self._intake_life.cancel()
        self._runner.drive_only(frozenset({State.COMPUTED}))

    async def flush(self) -> None:
        """Until what is computed has landed."""
        changed = asyncio.Event()
        self._steps.tell(lambda _: changed.set())
        while await self.journal.tasks_in({State.COMPUTED, State.SUBMITTING}):
            await changed.wait()
            changed.clear()

    async def _check_cluster(self) -> None:
        genesis_hash = await self._endpoints.join(self._settings.genesis_hash or await self.journal.genesis_hash())
        await self.journal.belongs_to(
            genesis_hash=genesis_hash, node=self.address, program=str(self._program.program_id)
        )

    async def _chain_time(self, commitment: Commitment = "confirmed") -> float:
        """Of two endpoints the earlier: by a clock that runs ahead no task is given up, nor its end believed."""
        return min(await self._agreement.each(lambda rpc: self._reader.clock(rpc, commitment)))

    async def _final_time(self) -> float:
        return await self._chain_time("finalized")
