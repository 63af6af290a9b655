"""What the SDK's chain of credentials may answer, as errors of ours."""

from typing import Any

import pytest
from botocore.exceptions import ClientError, MetadataRetrievalError, NoCredentialsError

from compute.storage.credentials import SdkCredentials
from compute.storage.retry import Transient
from shared.errors import StorageUnavailable

REFUSED = ClientError({"Error": {"Code": "Throttling", "Message": "slowly"}}, "AssumeRole")


class Session:
    """Gives no keys, but this error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_credentials(self) -> "Session":
        return self

    def get_frozen_credentials(self) -> None:
        raise self.error


def keys_of(error: Exception) -> None:
    credentials: Any = SdkCredentials()
    credentials._session = Session(error)
    credentials.keys()


@pytest.mark.parametrize(
    "error", [REFUSED, MetadataRetrievalError(error_msg="no answer"), RuntimeError("still expired")]
)
def test_keys_of_a_role_that_could_not_be_renewed_are_asked_for_again(error: Exception) -> None:
    with pytest.raises(Transient, match="no credentials for S3 now"):
        keys_of(error)


def test_where_there_are_no_keys_the_error_says_so() -> None:
    with pytest.raises(StorageUnavailable, match="no credentials"):
        keys_of(NoCredentialsError())
