"""problem+json (RFC 9457): how compute says no. `type` is a stable name out of `PROBLEM_TYPES`."""

from typing import Final

from fastapi.responses import JSONResponse

MEDIA_TYPE: Final = "application/problem+json"

PROBLEM_TYPES: Final[dict[str, str]] = {
    "unauthorized": "The bearer token is missing or wrong.",
    "invalid-request": "The body breaks a rule of the protocol; `field` names the place.",
    "input-forbidden": "This requester may not read one of the URIs.",
    "compute-units-above-cap": "computeUnits is above what this node accepts.",
    "at-capacity": "No place is free; try again after Retry-After.",
    "stopping": "The process is stopping; try again after Retry-After.",
    "content-differs": "The same attempt of this pair is known with other content.",
    "attempt-superseded": "A higher attempt of this pair is known.",
    "storing": "The outputs are being stored; wait for the result, or force.",
    "finished": "The task is done or failed; the result is in `result`.",
    "unknown-task": "No such task is known here.",
    "state-unavailable": "Results or outputs cannot be kept (a full disk?); nothing is taken or dropped meanwhile.",
    "unknown-call": "There is no such call, or not by this method.",
}


def problem(status: int, kind: str, detail: str, **members: object) -> JSONResponse:
    """A problem document as the answer. `kind` is one of `PROBLEM_TYPES`; `members` are added as they are."""
    body = {"type": kind, "title": PROBLEM_TYPES[kind], "status": status, "detail": detail, **members}
    retry_after = members.get("retryAfter")
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)
