"""Our signatures beside the SDK's own, of the same requests at the same moment."""

from datetime import UTC, datetime

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from compute.storage.sigv4 import NO_BODY, UNSIGNED, Keys, Signer, encoded_query

MOMENT = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
HOST = "127.0.0.1:9000"
URI_TEXT = st.text("ABCxyz0189._-/", min_size=1, max_size=60).filter(lambda text: "//" not in text)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


class SdkAuth(botocore.auth.S3SigV4Auth):
    def payload(self, request):
        return request.headers["x-amz-content-sha256"]


def sdk_signature(method: str, path: str, query: str, headers: dict[str, str], payload: str, keys: Keys) -> str:
    url = f"http://{HOST}{path}" + (f"?{query}" if query else "")
    moment = MOMENT.strftime("%Y%m%dT%H%M%SZ")
    request = AWSRequest(method, url, headers={**headers, "x-amz-content-sha256": payload, "x-amz-date": moment})
    request.context["timestamp"] = moment
    if keys.session_token:
        request.headers["x-amz-security-token"] = keys.session_token
    credentials = Credentials(keys.access_key, keys.secret_key, keys.session_token)
    auth = SdkAuth(credentials, "s3", "eu-west-1")
    return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]),
    key=URI_TEXT,
    query=st.dictionaries(st.sampled_from(["uploads", "uploadId", "partNumber", "prefix"]), VALUES),
    headers=st.dictionaries(st.sampled_from(["range", "if-match", "if-none-match", "x-amz-meta-a"]), VALUES),
    payload=st.sampled_from([NO_BODY, UNSIGNED]),
)
def test_a_signature_is_the_one_that_the_sdk_makes(token, method, key, query, headers, payload):
    keys = Keys("an access key", "a/secret+key", token)
    path, text = f"/bucket/{key.strip('/')}", encoded_query(query)
    # What HTTP takes for a value has no spaces around it, and the SDK joins those inside.
    headers = {name: " ".join(value.split()) for name, value in headers.items()}
    ours = Signer("eu-west-1").signed(method, path, text, {"host": HOST, **headers}, payload, keys, MOMENT)
    theirs = sdk_signature(method, path, text, {"host": HOST, **headers}, payload, keys)
    assert ours["authorization"].endswith(f"Signature={theirs}")


def test_each_day_and_each_secret_has_a_key_of_its_own():
    def authorization(signer: Signer, secret: str, day: int) -> str:
        moment = MOMENT.replace(day=day)
        return signer.signed("GET", "/b/k", "", {"host": HOST}, NO_BODY, Keys("a", secret), moment)[
            "authorization"
        ]

    signer = Signer("eu-west-1")
    cases = [("one", 6), ("two", 6), ("one", 7), ("one", 6)]
    kept = [authorization(signer, *case) for case in cases]
    assert kept == [authorization(Signer("eu-west-1"), *case) for case in cases]
    assert len(set(kept)) == 3
