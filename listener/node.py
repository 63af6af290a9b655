"""The listener's parts, put together: intake, tasks, lander and settlement around one journal."""

import asyncio
import logging
import random
from typing import Final

from solders.keypair import Keypair

from listener.chain.idl import Program
from listener.chain.lander import Lander, Pace
from listener.chain.rpc import Rpc
from listener.chain_clock import ChainClock
from listener.compute_client import ComputeClient
from listener.health import Checks
from listener.intake import Intake
from listener.journal.journal import Journal
from listener.journal.states import State
from listener.look import AccountLook, Look
from listener.look_by_transactions import TransactionLook
from listener.looks import Looks
from listener.observe import Observer
from listener.readiness import readiness_checks
from listener.reconcile import reconcile_for_ever
from listener.rules import Rules
from listener.settings import ListenerSettings
from listener.settlement import Settlement
from listener.steps import Steps, owes, signs
from listener.submission import Submission, Terms
from listener.tasks import Surroundings, TaskRunner
from shared.backoff import Backoff
from shared.clock import Clock
from shared.errors import ChainError, WrongCluster
from shared.logs import fields
from shared.urls import shown

RETRY: Final = Backoff(base_s=0.5, cap_s=15.0)

log = logging.getLogger("listener")


class Node:
    def __init__(
        self,
        settings: ListenerSettings,
        key: Keypair,
        token: str,
        program: Program,
        rpc: Rpc,
        journal: Journal,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.address = str(key.pubkey())
        self.journal = journal
        self._settings, self._program, self._rpc, self._clock, self._rng = settings, program, rpc, clock, rng
        self._compute = ComputeClient(settings.compute_url, token)
        self._steps = steps = Steps(journal)
        chain_clock = ChainClock(rpc.get_clock, clock)
        look: Look = AccountLook(rpc, program, key.pubkey())
        if program.by_transactions is not None:
            look = TransactionLook(rpc, program, key.pubkey(), journal)
        observer = Observer(look, Rules.of(settings), chain_clock, steps)
        submission = Submission(rpc, program, key, observer, chain_clock, steps, Terms.of(settings))
        surroundings = Surroundings(
            steps=steps,
            compute=self._compute,
            chain_clock=chain_clock,
            landing_margin_s=settings.landing_margin_s,
            submit=submission.submit,
            look_again=observer.look_again,
        )
        self._runner = TaskRunner(surroundings, rng)
        self._lander = Lander(rpc, program, steps, Pace.of(settings), clock)
        self._settlement = Settlement(steps, self._compute, look, lambda: rpc.get_clock("finalized"), clock)
        looks = Looks(observer, clock, rng)
        self._intake = Intake(rpc, program, key.pubkey(), looks, journal, settings, clock, rng)
        steps.tell(self._runner.changed)
        steps.tell(self._lander.changed, signs)
        steps.tell(self._settlement.changed, owes)
        self._intake_life: asyncio.Task[None] | None = None
        self._is_closed = False
        self.checks = Checks(readiness_checks(self._intake, rpc, journal, self._compute, key.pubkey(), settings))

    async def live(self) -> None:
        """Until cancelled. Raises WrongCluster, or ConfigurationError where the journal is of another cluster."""
        await self._check_cluster()
        async with asyncio.TaskGroup() as group:
            if not self._is_closed:
                self._intake_life = group.create_task(self._intake.run())
            group.create_task(self._runner.run())
            group.create_task(self._lander.run())
            group.create_task(self._settlement.run())
            await self._intake.listed.wait()
            group.create_task(reconcile_for_ever(self._compute, self.journal, self._clock))

    def close_intake(self) -> None:
        """Nothing new is taken; only what is computed goes further."""
        self._is_closed = True
        if self._intake_life is not None:
            self._intake_life.cancel()
        self._runner.close()

    async def flush(self) -> None:
        """Until what is computed has landed."""
        changed = asyncio.Event()
        self._steps.tell(lambda _: changed.set())
        while await self.journal.tasks_in({State.COMPUTED, State.SUBMITTING}):
            await changed.wait()
            changed.clear()

    async def close(self) -> None:
        await self._compute.close()

    async def _check_cluster(self) -> None:
        genesis_hash = await self._genesis_hash()
        expected = self._settings.genesis_hash
        if expected not in (None, genesis_hash):
            raise WrongCluster(
                f"{shown(self._settings.rpc_url)} is of the cluster {genesis_hash}, SPLITUP_GENESIS_HASH is {expected}"
            )
        await self.journal.belongs_to(
            genesis_hash=genesis_hash, node=self.address, program=str(self._program.program_id)
        )

    async def _genesis_hash(self) -> str:
        """Asked until the endpoint answers: it may start after us."""
        failures = 0
        while True:
            try:
                return str(await self._rpc.get_genesis_hash())
            except ChainError as error:
                log.warning("the endpoint does not answer", extra=fields(error=str(error)))
                await self._clock.sleep(RETRY.delay_s(failures, self._rng))
                failures += 1
