"""AWS Signature Version 4 in the Authorization header, for requests to S3. No I/O; the time is passed in.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
"""In place of the body's hash, where TLS keeps the body whole."""
NO_BODY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Keys:
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def encoded_query(query: Mapping[str, str]) -> str:
    """As it stands in the request and, the same, in what is signed: sorted, all but unreserved characters encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))


class Signer:
    """Signs for one region. The day's key is kept, so that a signature takes three hashes."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._day: tuple[str, str, bytes] | None = None

    def signed(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload_hash: str,
        keys: Keys,
        now: datetime,
    ) -> dict[str, str]:
        """`headers` (names in lower case, `host` among them, all are signed) and those that authorize the request.

        `path` and `query` are encoded as they are sent; `now` is in UTC.
        """
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        day = moment[:8]
        made = {**headers, "x-amz-content-sha256": payload_hash, "x-amz-date": moment}
        if keys.session_token is not None:
            made["x-amz-security-token"] = keys.session_token
        names = sorted(made)
        lines = "".join(f"{name}:{made[name].strip()}\n" for name in names)
        signed_names = ";".join(names)
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed_names}\n{payload_hash}"
        scope = f"{day}/{self._region}/s3/aws4_request"
        to_sign = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(keys.secret_key, day), to_sign.encode(), "sha256").hex()
        made["authorization"] = (
            f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={signed_names}, Signature={signature}"
        )
        return made

    def _key(self, secret_key: str, day: str) -> bytes:
        known = self._day
        if known is None or known[:2] != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day = known = (secret_key, day, key)
        return known[2]
