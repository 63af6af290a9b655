"""Seeds that found something, each with what it was. They run with every change."""

from typing import Final

FOUND: Final[dict[int, str]] = {
    57: "the objects of a paid completion were deleted when the pair, assigned again, ended unpaid",
    139: "an account that an endpoint hid for a moment was passed over for good",
    276651665: "a reward whose signature an endpoint alone had called expired was missing in the ledger",
    283196994: "a pair was paid twice: its first completion became final between two questions to the journal",
    283197015: "at the first start an endpoint of another cluster was believed, and the node never started again",
    382090834: "what a pair gave one requester stayed for ever once the pair was another's",
    770294: "compute kept the result of a task that was renumbered while compute was away, and then cancelled",
    791750430: "what settled a task outlived the listener that was stopped",
}
