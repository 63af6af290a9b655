"""How many of the chain's compute units one submission takes: known, simulated, or set by the operator."""

from solders.hash import Hash
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.idl import Program
from listener.chain.rpc import Simulation
from listener.chain.transactions import unsigned_transaction
from listener.compute_units import MAX_LIMIT, UNITS_PER_BUILTIN, of_reference_program
from listener.journal.states import SubmissionKind
from listener.landing import Landed


class UnitMeter:
    def __init__(
        self, endpoints: Endpoints, program: Program, node: Pubkey, *, is_reference_program: bool
    ) -> None:
        self._endpoints = endpoints
        self._program = program
        self._node = node
        self._is_reference_program = is_reference_program
        self._simulated: dict[tuple[SubmissionKind, int], int] = {}

    def must_ask(self, kind: SubmissionKind) -> bool:
        """Without a described account the program alone knows whether it would pay, so each completion is simulated."""
        return self._program.by_transactions is not None and kind is SubmissionKind.COMPLETED

    async def units(self, kind: SubmissionKind, instruction: Instruction, blockhash: Hash) -> int | Landed:
        """What it takes with the two instructions that set limit and price, or how the program would refuse it.

        Raises ChainError.
        """
        is_asked = self.must_ask(kind)
        if self._is_reference_program and not is_asked:
            return of_reference_program(len(instruction.data)) + 2 * UNITS_PER_BUILTIN
        shape = kind, len(instruction.data)
        if is_asked or shape not in self._simulated:
            simulated = await self._simulate(instruction, blockhash)
            if simulated.err is not None:
                return Landed.of(simulated.slot, simulated.err, self._program, is_finalized=False)
            self._simulated[shape] = simulated.compute_units or MAX_LIMIT
        return self._simulated[shape]

    async def _simulate(self, instruction: Instruction, blockhash: Hash) -> Simulation:
        raw = unsigned_transaction([instruction], self._node, blockhash, MAX_LIMIT, compute_unit_price=1)
        return await self._endpoints.ask(lambda rpc: rpc.simulate_transaction(raw), Urgency.SUBMIT)
