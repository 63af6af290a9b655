import json
import logging
import traceback
from pathlib import Path

import pytest
from solders.keypair import Keypair

from listener.chain.keyfile import load_keypair
from shared.errors import KeyFileError

KEY = Keypair.from_seed(bytes(range(100, 132)))
NUMBERS = list(bytes(KEY))


def written(folder: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path = folder / "id.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_as_solana_keygen_writes_it_is_read(tmp_path: Path, mode: int) -> None:
    assert load_keypair(written(tmp_path, json.dumps(NUMBERS), mode)) == KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_file_that_others_can_open_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileError, match=rf"mode {mode:o}.*chmod 600"):
        load_keypair(written(tmp_path, json.dumps(NUMBERS), mode))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(KeyFileError, match=f"cannot read the key file {path}"):
            load_keypair(path)


FIRST = [*NUMBERS[:32], *bytes(Keypair.from_seed(bytes(32)))[32:]]
WRONG = {
    "not JSON": json.dumps(NUMBERS)[:-1],
    "a trailing comma": json.dumps(NUMBERS)[:-1] + ",]",
    "base58": str(KEY),
    "an object": json.dumps({"key": NUMBERS}),
    "a text": json.dumps("".join(map(chr, NUMBERS))),
    "the seed alone": json.dumps(NUMBERS[:32]),
    "one too many": json.dumps([*NUMBERS, 0]),
    "a number too large": json.dumps([256, *NUMBERS[1:]]),
    "a negative number": json.dumps([-1, *NUMBERS[1:]]),
    "texts": json.dumps([str(number) for number in NUMBERS]),
    "fractions": json.dumps([number + 0.5 for number in NUMBERS]),
    "the public key of another": json.dumps(FIRST),
    "deep": "[" * 100_000,
    "a huge number": "[" + "9" * 5000 + "]",
    "empty": "",
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_what_is_no_key_is_refused_and_never_shown(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, content)
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyFileError, match="is not a JSON list of 64") as caught:
        load_keypair(path)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert str(path) in shown
    for secret in (str(KEY), "100, 101", "102", "103"):
        assert secret not in shown.replace(str(path), "")


def test_what_is_not_text_is_refused_and_never_shown(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="not a text file") as caught:
        load_keypair(written(tmp_path, bytes(KEY) + b"\xff"))
    shown = "".join(traceback.format_exception(caught.value))
    assert "Unicode" not in shown and "defghij" not in shown
