import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidId, InvalidUri
from shared.ids import parse_execution_id, parse_requester
from shared.uris import below, parse_object_uri, parse_prefix, parse_tensor_uri, relative_key

ALLOWED = string.ascii_letters + string.digits + "._-"


@pytest.mark.parametrize("text", ["", ".", "..", ".hidden", "a/b", "a b", "a" * 65, "é", "a\n", "a\x00"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidId, match="executionId"):
        parse_execution_id(text)


@given(st.text(ALLOWED, min_size=1, max_size=64).filter(lambda text: text[0] != "."))
def test_every_id_of_the_allowed_alphabet_is_taken_as_it_is(text: str) -> None:
    assert parse_execution_id(text) == text


def test_the_message_about_a_bad_id_cannot_move_a_cursor() -> None:
    with pytest.raises(InvalidId) as caught:
        parse_execution_id("\x1b[2J")
    assert "\x1b" not in str(caught.value)


def test_a_requester_is_a_public_key_or_the_operator() -> None:
    assert parse_requester("operator") == "operator"
    assert parse_requester("4Nd1mYbXv1N5jzzYQxJqXkYp8fLe7GZcWcRj5v5Q5v5Q") != ""
    with pytest.raises(InvalidId):
        parse_requester("0OIl" * 10)


HOSTILE = [
    "http://169.254.169.254/latest",
    "s3://bucket@host/key",
    "s3://bucket/../other/key",
    "s3://bucket/a/./b",
    "s3://bucket/%2e%2e/key",
    "s3://bucket//key",
    "s3://bucket/key/",
    "s3:///key",
    "s3://../key",
    "s3://arn:aws:s3:us-east-1:1:accesspoint/x/key",
    "file://host/path",
    "file:///",
    "file:///a/../etc/passwd",
    "s3://bucket/key#a#b",
    "s3://bucket/key#",
    "s3://bucket/key?versionId=1",
    "s3://bucket/ключ",
    "S3://bucket/key",
    "s3://bucket/key\n",
    "s3://bucket/" + "a" * 400,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_uri_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidUri):
        parse_tensor_uri(text)


@given(st.text(max_size=420))
def test_any_text_is_a_uri_or_a_clear_refusal(text: str) -> None:
    try:
        uri = parse_tensor_uri(text)
    except InvalidUri:
        return
    assert str(uri) == text


def test_a_fragment_names_one_tensor_or_all() -> None:
    assert parse_tensor_uri("s3://b/k.safetensors#layer.0/w").fragment == "layer.0/w"
    assert parse_tensor_uri("file:///srv/k.safetensors#*").fragment == "*"
    assert parse_tensor_uri("s3://b/k.safetensors").fragment is None
    with pytest.raises(InvalidUri):
        parse_object_uri("s3://b/k#*")


def test_a_name_of_64_hex_digits_commits_to_the_bytes() -> None:
    digest = "0f" * 32
    assert parse_object_uri(f"s3://b/x/{digest}.safetensors").content_hash == digest
    assert parse_object_uri(f"s3://b/x/{digest.upper()}.safetensors").content_hash == digest
    assert parse_object_uri(f"s3://b/x/{digest[:-1]}F.safetensors").content_hash == digest
    assert parse_object_uri(f"s3://b/x/{digest[:-1]}.safetensors").content_hash is None
    assert parse_object_uri(f"s3://b/x/{digest}.json").content_hash is None


def test_what_lies_below_a_prefix_is_told_by_whole_segments() -> None:
    prefix = parse_prefix("s3://bucket/tasks/")
    assert relative_key(prefix, parse_object_uri("s3://bucket/tasks/me/x")) == "me/x"
    assert relative_key(prefix, parse_object_uri("s3://bucket/tasksx/me/x")) is None
    assert relative_key(prefix, parse_object_uri("s3://other/tasks/me/x")) is None
    assert relative_key(parse_prefix("s3://bucket"), parse_object_uri("s3://bucket/me/x")) == "me/x"
    assert str(below(parse_prefix("s3://bucket"), "me", "x")) == "s3://bucket/me/x"
