import sys
from pathlib import Path

import pytest

from compute.settings import ComputeSettings
from compute.storage import open_storage
from shared.errors import StorageUnavailable
from shared.uris import parse_object_uri


def settings(tmp_path: Path, **values: str) -> ComputeSettings:
    for folder in ("in", "out", "models"):
        (tmp_path / folder).mkdir(exist_ok=True)
    named = {
        "token_file": str(tmp_path / "token"),
        "allowed_prefixes": f"file://{tmp_path}/in",
        "output_prefix": f"file://{tmp_path}/out",
        "model_stores": f"file://{tmp_path}/models",
    }
    return ComputeSettings(**named | values)


async def test_every_prefix_of_the_settings_is_a_root_and_nothing_else_is(tmp_path):
    storage = open_storage(settings(tmp_path))
    await storage.probe()
    for folder in ("in", "out", "models"):
        uri = parse_object_uri(f"file://{tmp_path}/{folder}/object")
        assert await storage.put_new(uri, [b"x"]) is True
        assert (await storage.read_start(uri, 1)).size == 1
        await storage.delete(uri)
    with pytest.raises(StorageUnavailable, match="none of the configured roots"):
        await storage.read_start(parse_object_uri(f"file://{tmp_path}/token"), 1)
    storage.close()


async def test_a_scheme_without_a_prefix_is_never_contacted(tmp_path):
    storage = open_storage(settings(tmp_path))
    with pytest.raises(StorageUnavailable, match="no s3:// prefix"):
        await storage.read_start(parse_object_uri("s3://bucket/x"), 1)
    storage.close()


async def test_both_schemes_can_be_configured_side_by_side(tmp_path):
    storage = open_storage(settings(tmp_path, output_prefix="s3://bucket/out"))
    assert await storage.put_new(parse_object_uri(f"file://{tmp_path}/in/x"), [b"x"]) is True
    assert "compute.storage.s3" in sys.modules
    storage.close()
