"""Every error that a user of the node can meet, drawn once.

SplitUpError
├── ConfigurationError              a setting is missing or wrong; the process does not start
├── InvalidId                       an executionId, taskId, modelId or requester breaks the rule for ids
├── InvalidUri                      a TensorUri breaks the rule for URIs
├── TaskError                       ends one task as failed, with `reason` (a stable name) and a message
│   ├── InputMissing                an object of the inputs or the package is not in storage
│   ├── InputForbidden              this requester may not read that URI
│   ├── InputInvalid                an object is not what its name or header says
│   ├── StorageUnavailable          storage did not answer within the deadline
│   ├── GraphInvalid                the package is not a valid task graph
│   ├── OperatorNotAllowed          a node names an operator outside the allowlist
│   ├── InputMismatch               inputs disagree with the graph in number, dtype or shape
│   ├── OutputCountMismatch         the graph gives another number of outputs than expected
│   ├── TooLarge                    a tensor, header or graph is above its limit
│   ├── ComputeUnitsExceeded        more computeUnits counted than declared, or than the cap
│   ├── ComputationFailed           torch refused or broke while computing
│   ├── OutOfMemory                 the device or the host has no memory for this task
│   └── DeadlinePassed              the deadline (less the landing margin) has passed
├── StateUnavailable                compute cannot keep results or outputs, such as on a full disk
├── ChainError                      the chain or a provider of it
│   ├── RpcUnavailable              no answer: refused, reset, timed out, HTTP 5xx
│   ├── RpcRateLimited              HTTP 429, with `retry_after_s`
│   ├── RpcRefused                  a JSON-RPC error, with `code`
│   ├── RpcInvalid                  an answer that is not what the method promises
│   ├── WrongCluster                the genesis hash is another cluster's
│   ├── Disputed                    two endpoints disagree, and no third decides
│   ├── PageMarkUnknown             an endpoint does not know the signature from which to go back
│   ├── HistoryPruned               an endpoint no longer has the signatures that were asked for
│   ├── IdlInvalid                  the IDL lacks what the node needs, or contradicts itself
│   ├── AccountInvalid              an account is not an execution account of the program
│   └── EventInvalid                a log or event is not well formed
├── JournalError                    the journal cannot be used as it is
│   ├── JournalLocked               another listener holds it
│   ├── JournalNewer                it was written by a newer version
│   ├── JournalDamaged              its file is not what SQLite wrote; the message says how to make a new one
│   ├── JournalUnavailable          it cannot be read or written now: a full disk, or another program's lock
│   └── StateConflict               a task was in another state than the change expected
├── ComputeError                    the way to the compute process
│   ├── ComputeUnavailable          no answer
│   ├── ComputeBusy                 429, with `retry_after_s`
│   ├── ComputeConflict             409, with the problem document
│   └── ComputeRefused              422, with the problem document
├── CannotSplit                     the author's model, or the cuts asked for, cannot be made into pieces
├── RequesterError                  the requester's side of an assignment
│   ├── TransactionTooLarge         it does not fit into a transaction; the message says by how many bytes
│   ├── TransactionRefused          the program or the runtime refused it, with `name` where it has one
│   ├── TransactionExpired          it was not seen on the chain while its blockhash was valid
│   ├── TaskNotCompleted            the task ended without outputs: failed, expired, cancelled or taken back
│   └── OutputInvalid               outputs do not lie where they must, or are not what their names say
├── UnknownTask                     a command names no task of the journal, or more than one
├── LocalNetworkFailed              a process of the local network did not start, or ended too soon
└── KeyFileError                    the node's key cannot be read, or others can read it
"""


class SplitUpError(Exception):
    """Base of all errors that the node raises on purpose."""


class ConfigurationError(SplitUpError): ...


class InvalidId(SplitUpError, ValueError):
    """Also a ValueError, so that pydantic shows it as the field's error."""


class InvalidUri(SplitUpError, ValueError):
    """Also a ValueError, so that pydantic shows it as the field's error."""


class TaskError(SplitUpError):
    """Ends one task as failed. The class's name is the stable `reason`, the message is the errorMessage."""

    @property
    def reason(self) -> str:
        return type(self).__name__


class InputMissing(TaskError): ...


class InputForbidden(TaskError): ...


class InputInvalid(TaskError): ...


class StorageUnavailable(TaskError): ...


class GraphInvalid(TaskError): ...


class OperatorNotAllowed(TaskError): ...


class InputMismatch(TaskError): ...


class OutputCountMismatch(TaskError): ...


class TooLarge(TaskError): ...


class ComputeUnitsExceeded(TaskError): ...


class ComputationFailed(TaskError): ...


class OutOfMemory(TaskError): ...


class DeadlinePassed(TaskError): ...


class StateUnavailable(SplitUpError): ...


class ChainError(SplitUpError): ...


class RpcUnavailable(ChainError): ...


class RpcRateLimited(ChainError):
    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RpcRefused(ChainError):
    """A JSON-RPC error. `data` is what the provider added, such as a simulation's logs."""

    def __init__(self, message: str, code: int, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class RpcInvalid(ChainError): ...


class WrongCluster(ChainError): ...


class Disputed(ChainError): ...


class PageMarkUnknown(ChainError): ...


class HistoryPruned(ChainError): ...


class IdlInvalid(ChainError): ...


class AccountInvalid(ChainError): ...


class EventInvalid(ChainError): ...


class JournalError(SplitUpError): ...


class JournalLocked(JournalError): ...


class JournalNewer(JournalError): ...


class JournalDamaged(JournalError): ...


class JournalUnavailable(JournalError): ...


class StateConflict(JournalError): ...


class ComputeError(SplitUpError): ...


class ComputeUnavailable(ComputeError): ...


class ComputeBusy(ComputeError):
    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ComputeConflict(ComputeError):
    def __init__(self, message: str, problem: dict[str, object]) -> None:
        super().__init__(message)
        self.problem = problem


class ComputeRefused(ComputeError):
    def __init__(self, message: str, problem: dict[str, object]) -> None:
        super().__init__(message)
        self.problem = problem


class CannotSplit(SplitUpError): ...


class RequesterError(SplitUpError): ...


class TransactionTooLarge(RequesterError): ...


class TransactionRefused(RequesterError):
    """`name` is the program's name for the error, or None for one of the runtime."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class TransactionExpired(RequesterError): ...


class TaskNotCompleted(RequesterError): ...


class OutputInvalid(RequesterError): ...


class UnknownTask(SplitUpError): ...


class LocalNetworkFailed(SplitUpError): ...


class KeyFileError(SplitUpError): ...


TASK_REASONS = frozenset(cls.__name__ for cls in TaskError.__subclasses__())


def leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group, however nested; of what is no group, the error itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]
