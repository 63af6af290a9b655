"""What a POST means, given what is known of its pair, and whether there is room for it."""

import json
from enum import Enum, auto
from math import ceil

from compute.settings import ComputeSettings
from compute.storage.access import AccessPolicy
from compute.task_table import Entry
from shared.errors import InputForbidden, SplitUpError
from shared.ids import OPERATOR
from shared.messages import Stage, TaskRequest
from shared.uris import parse_tensor_uri


class Refused(SplitUpError):
    """Answered as a problem document: `kind` is its type, `members` stand beside `detail`."""

    def __init__(self, status: int, kind: str, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.members = members


class Verdict(Enum):
    NEW = auto()
    """Nothing is known of the pair."""
    KNOWN = auto()
    """The same work under the same attempt: nothing is to be done."""
    RENUMBER = auto()
    """The same work under a higher attempt: it goes on, or its result stands."""
    REPLACE = auto()
    """Other work: what is known is stopped by force or dropped."""


def content_of(request: TaskRequest) -> str:
    """What makes a request this piece of work, as text that can be compared."""
    return json.dumps(request.content(), sort_keys=True)


def judge(known: Entry | None, request: TaskRequest) -> Verdict:
    """Raises Refused (409) where the request contradicts what is known."""
    if known is None:
        return Verdict.NEW
    if known.requester == OPERATOR and request.requester != OPERATOR:
        # What the chain assigns goes before what a local caller tried out.
        return Verdict.REPLACE
    same = known.content == content_of(request)
    if request.attempt == known.attempt:
        if not same:
            raise conflict("content-differs", "this attempt is known with other content", known)
        return Verdict.KNOWN
    if request.attempt < known.attempt:
        raise conflict("attempt-superseded", f"attempt {known.attempt} of this pair is known", known)
    return Verdict.RENUMBER if same and known.stage is not Stage.FAILED else Verdict.REPLACE


class Admission:
    """The door: closed while the process stops or cannot keep results."""

    def __init__(self, settings: ComputeSettings) -> None:
        self._settings = settings
        self._access = AccessPolicy(settings.allowed_prefixes, settings.trust_groups)
        self.stopping = False
        self.state_failure: str | None = None
        """Why results cannot be kept at present, if so."""

    def check_body(self, request: TaskRequest) -> None:
        """Raises Refused (422) for what is wrong by the body alone."""
        for place, text in enumerate(request.input_uris):
            try:
                self._access.check(parse_tensor_uri(text).object, request.requester)
            except InputForbidden as exc:
                raise Refused(422, "input-forbidden", str(exc), field=f"inputUris.{place}") from exc
        cap = self._settings.max_compute_units
        if request.compute_units is not None and request.compute_units > cap:
            raise Refused(
                422,
                "compute-units-above-cap",
                f"computeUnits is {request.compute_units}; this node takes at most {cap}",
                field="computeUnits",
            )

    def check_room(self, unfinished: int) -> None:
        """Raises Refused (429) unless one more task may begin."""
        if self.stopping:
            raise self._later("stopping", "this process is stopping")
        if self.state_failure is not None:
            raise self._later("at-capacity", self.state_failure)
        if unfinished >= self._settings.max_tasks:
            raise self._later("at-capacity", f"{unfinished} tasks are unfinished, and this node holds no more")

    def _later(self, kind: str, detail: str) -> Refused:
        return Refused(429, kind, detail, retryAfter=ceil(self._settings.retry_after_s))


def conflict(kind: str, detail: str, known: Entry, **members: object) -> Refused:
    return Refused(409, kind, detail, attempt=known.attempt, stage=known.stage, **members)
