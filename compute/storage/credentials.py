"""Where keys and AWS's own endpoints come from: the SDK's chain. The only file that imports boto3 and botocore."""

import threading

import boto3
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from compute.storage.retry import Transient
from compute.storage.sigv4 import Keys
from shared.errors import StorageUnavailable


class SdkCredentials:
    """Keys of the SDK's chain: environment, files, roles; those that expire are renewed. Looked up when needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: boto3.session.Session | None = None
        self._credentials: Credentials | None = None

    def keys(self) -> Keys:
        """Raises StorageUnavailable where there are none, Transient where they could not be renewed."""
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._opened().get_credentials()
                if self._credentials is None:
                    raise StorageUnavailable(
                        "no credentials for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    )
                frozen = self._credentials.get_frozen_credentials()
        except (NoCredentialsError, PartialCredentialsError) as exc:
            raise StorageUnavailable(f"no credentials for S3: {exc}") from exc
        except (BotoCoreError, ClientError, RuntimeError) as exc:  # a role's keys could not be renewed this time
            raise Transient(f"no credentials for S3 now: {exc}") from exc
        if not frozen.access_key or not frozen.secret_key:
            raise StorageUnavailable("credentials for S3 are incomplete: both keys are needed")
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def endpoint_of(self, region: str) -> str:
        """URL of the endpoint that the SDK would choose. Raises StorageUnavailable where it chooses none."""
        config = Config(s3={"addressing_style": "path"})
        try:
            with self._lock:
                url: str = self._opened().client("s3", region_name=region, config=config).meta.endpoint_url
                return url
        except (BotoCoreError, ClientError, ValueError) as exc:
            raise StorageUnavailable(f"no endpoint for S3: {exc}") from exc

    def _opened(self) -> boto3.session.Session:
        if self._session is None:
            self._session = boto3.session.Session()
        return self._session
