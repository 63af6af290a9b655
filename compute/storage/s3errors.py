"""What a server's refusal or a broken connection means: to be tried again, or an error of ours."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

from compute.storage.retry import Transient
from compute.storage.s3http import Refusal
from shared.errors import InputInvalid, InputMissing, SplitUpError, StorageUnavailable
from shared.uris import ObjectUri

TRANSIENT_CODES = {"BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
NO_SUCH_BUCKET = "NoSuchBucket"
NO_SUCH_UPLOAD = "NoSuchUpload"
STATUS_OF_CODE = {
    "ConditionalRequestConflict": 409,
    "InternalError": 500,
    NO_SUCH_BUCKET: 404,
    NO_SUCH_UPLOAD: 404,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "ServiceUnavailable": 503,
    "SlowDown": 503,
}
"""Of errors that come as the body of a 200, since its head was sent before they were met."""
_TRANSIENT_STATUSES = {408, 409, 425, 429}


@contextmanager
def mapped_errors(uri: ObjectUri) -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise _mapped(uri, refusal) from refusal
    except ssl.SSLCertVerificationError as exc:
        raise StorageUnavailable(
            f"{uri}: {exc.verify_message}; AWS_CA_BUNDLE may name a file with the certificates to trust"
        ) from exc
    # ValueError: of a head that was cut within a number.
    except (OSError, HTTPException, ValueError) as exc:
        raise Transient(f"{type(exc).__name__}: {exc}"[:300]) from exc


def is_transient(refusal: Refusal) -> bool:
    return (
        refusal.status >= 500
        or refusal.status in _TRANSIENT_STATUSES
        or refusal.code in TRANSIENT_CODES
        or refusal.clock_corrected
    )


def _mapped(uri: ObjectUri, refusal: Refusal) -> Transient | SplitUpError:
    if is_transient(refusal):
        clock = ": this machine's clock is off; the server's time is used from now on"
        return Transient(f"{refusal}{clock if refusal.clock_corrected else ''}")
    if refusal.status == 404 and refusal.code != NO_SUCH_BUCKET:
        return InputMissing(f"{uri} is not there")
    if refusal.status == 412:
        return InputInvalid(f"{uri} changed while it was being read")
    if refusal.status == 416:
        return InputInvalid(f"{uri} is shorter than the bytes that were asked for")
    return StorageUnavailable(f"{uri}: {refusal}; check the bucket, the region and the credentials' rights")
