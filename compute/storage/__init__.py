"""Objects in storage: `s3://` and `file://` behind one seam."""

from compute.settings import StorageSettings
from compute.storage.files import FileStorage
from compute.storage.retry import RetryPolicy
from compute.storage.router import RoutedStorage
from compute.storage.store import Storage


def open_storage(settings: StorageSettings) -> Storage:
    """Storage for the schemes that the settings' prefixes use; any other is refused as unavailable."""
    schemes: dict[str, Storage] = {}
    policy = RetryPolicy(patience_s=settings.storage_patience_s)
    if roots := tuple(prefix for prefix in settings.places if prefix.scheme == "file"):
        schemes["file"] = FileStorage(roots, policy)
    if places := tuple(prefix for prefix in settings.places if prefix.scheme == "s3"):
        # Here, because boto3 takes half a second to import and many nodes have no S3.
        from compute.storage.s3 import S3Storage  # noqa: PLC0415

        schemes["s3"] = S3Storage(
            places,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            path_style=settings.s3_path_style,
            policy=policy,
        )
    return RoutedStorage(schemes)
