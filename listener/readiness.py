"""The checks behind the listener's GET /ready."""

from listener.chain.agreement import Agreement
from listener.chain.budget import Urgency
from listener.chain.endpoints import Endpoints
from listener.chain.tip import Tip
from listener.compute_client import ComputeClient
from listener.health import CheckNow
from listener.intake import Intake
from listener.intake_gate import IntakeGate
from listener.journal.journal import Journal
from listener.journal.states import IntakeState
from listener.settings import ListenerSettings
from listener.treasury import Treasury


def readiness_checks(
    intake: Intake,
    gate: IntakeGate,
    tip: Tip,
    endpoints: Endpoints,
    agreement: Agreement,
    journal: Journal,
    compute: ComputeClient,
    treasury: Treasury,
    settings: ListenerSettings,
) -> dict[str, CheckNow]:
    async def intake_open() -> tuple[bool, str, str | None]:
        match gate.state:
            case IntakeState.OPEN:
                return True, "open", None
            case IntakeState.DRAINING:
                return False, "draining", "wait: the listener stops when its last task is over"
            case IntakeState.DRAINED:
                return False, "drained", "splitup-node resume takes new work again"

    async def slot() -> tuple[bool, str, str | None]:
        if gate.state is not IntakeState.OPEN:
            return True, f"not followed while the node is {gate.state}", None
        age_s = tip.age_s()
        if age_s is None:
            return False, "no slot was seen yet", "is SPLITUP_WS_URL right, and the endpoint up?"
        is_young = age_s <= settings.watchdog_silence_s
        return is_young, f"the last slot was seen {age_s:.1f} s ago", "is the endpoint behind SPLITUP_WS_URL up?"

    async def endpoint() -> tuple[bool, str, str | None]:
        slot = await endpoints.ask(lambda rpc: rpc.get_slot(), Urgency.WORK)
        told = [f"{one.name}: {one.why or 'well'}" for one in endpoints.all]
        if agreement.alone:
            told.append(agreement.alone)
        if intake.is_listing_refused:
            told.append("getProgramAccounts is refused")
        in_use = endpoints.usable()[0].name
        return True, f"{in_use} at slot {slot} ({'; '.join(told)})", None

    async def cursor() -> tuple[bool, str, str | None]:
        known = await journal.cursor()
        if intake.halted is not None:
            advice = "add an endpoint that keeps older signatures, or one that lists accounts (getProgramAccounts)"
            return False, intake.halted, advice
        if known is None:
            return intake.listed.is_set(), "no signature was read yet", "wait for the first listing"
        behind = max(0, await endpoints.ask(lambda rpc: rpc.get_slot("finalized"), Urgency.WORK) - known.slot)
        return True, f"slot {known.slot}, {behind} slots behind the finalized one", None

    async def written() -> tuple[bool, str, str | None]:
        await journal.check()
        counts = {state.value: number for state, number in (await journal.counts()).items()}
        return True, f"{journal.path}: {counts}", None

    async def compute_ready() -> tuple[bool, str, str | None]:
        readiness = await compute.readiness()
        failing = {name: check for name, check in readiness.checks.items() if not check.ok}
        if not failing:
            return readiness.ready, "ready", None
        value = "; ".join(f"{name}: {check.value}" for name, check in failing.items())
        advice = "; ".join(f"{name}: {check.what_to_do}" for name, check in failing.items() if check.what_to_do)
        return readiness.ready, value, advice

    return {
        "intake": intake_open,
        "slot": slot,
        "endpoint": endpoint,
        "cursor": cursor,
        "journal": written,
        "balance": treasury.check,
        "compute": compute_ready,
    }
