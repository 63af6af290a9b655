import json
from pathlib import Path

import pytest
from solders.keypair import Keypair

from requester.session import open_session
from requester.settings import RequesterSettings
from shared.errors import ConfigurationError
from tests.unit.other_idls import without_account


async def test_the_requesters_commands_say_that_they_need_a_described_account(tmp_path: Path) -> None:
    key, idl = tmp_path / "key.json", tmp_path / "idl.json"
    key.write_text(Keypair().to_json())
    key.chmod(0o600)
    idl.write_text(json.dumps(without_account()))
    settings = RequesterSettings(
        requester_keypair=key,
        rpc_url="http://127.0.0.1:1",
        program_id=str(Keypair().pubkey()),
        idl=idl,
        publish_prefix=f"file://{tmp_path}/published",
        allowed_prefixes=f"file://{tmp_path}/outputs",
    )
    with pytest.raises(ConfigurationError, match="describes no account Execution"):
        async with open_session(settings):
            pass
