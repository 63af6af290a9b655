import pytest

from compute.storage.access import AccessPolicy
from shared.errors import InputForbidden, InvalidUri
from shared.ids import OPERATOR, Requester
from shared.uris import parse_object_uri, parse_prefix, parse_tensor_uri

ALICE = Requester("4Nd1mYbq3kQ6oCk7z8Hn5m2tP9vXw1rJ6sLfGhTdUeA")
BOB = Requester("9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin")
EVE = Requester("FsJ3A3u2vn5cTVofAjvy6y5kwABJAqYWpe4975bi2epH")
POLICY = AccessPolicy(
    [parse_prefix("s3://tensors/tasks"), parse_prefix("file:///srv/tensors"), parse_prefix("s3://whole")],
    {"friends": [ALICE, BOB]},
)


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://tensors/tasks/{ALICE}/x.safetensors",
        f"s3://tensors/tasks/{ALICE}/run/task/x.safetensors",
        "s3://tensors/tasks/public/x.safetensors",
        f"file:///srv/tensors/{ALICE}/x",
        f"s3://whole/{ALICE}/x",
        f"s3://tensors/tasks/{BOB}/x",
    ],
)
def test_a_requester_reads_its_own_folder_the_public_one_and_its_groups(uri):
    POLICY.check(parse_object_uri(uri), ALICE)


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://tensors/tasks/{EVE}/x",
        f"s3://tensors/{ALICE}/x",
        f"s3://tensors/tasks2/{ALICE}/x",
        f"s3://tensors/tasks/{ALICE}",
        f"s3://tensors/tasks/{ALICE}x/y",
        f"s3://tensors/tasks/x/{ALICE}/y",
        f"s3://tensors/tasks/{ALICE.lower()}/y",
        f"s3://other/tasks/{ALICE}/x",
        f"s3://tensors.other/tasks/{ALICE}/x",
        "s3://tensors/tasks/publicity/x",
        "s3://tensors/tasks/operator/x",
        "s3://tensors/tasks/friends/x",
        f"file:///srv/tensors-private/{ALICE}/x",
        f"file:///srv/{ALICE}/x",
        "file:///etc/passwd",
        "file:///proc/self/environ",
    ],
)
def test_everything_else_is_forbidden(uri):
    with pytest.raises(InputForbidden, match="may not read"):
        POLICY.check(parse_object_uri(uri), ALICE)


def test_the_operator_has_a_folder_of_its_own():
    POLICY.check(parse_object_uri("s3://tensors/tasks/operator/x"), OPERATOR)
    with pytest.raises(InputForbidden):
        POLICY.check(parse_object_uri(f"s3://tensors/tasks/{ALICE}/x"), OPERATOR)


def test_a_group_works_in_its_members_favour_only():
    with pytest.raises(InputForbidden):
        POLICY.check(parse_object_uri(f"s3://tensors/tasks/{ALICE}/x"), EVE)


@pytest.mark.parametrize(
    "uri",
    [
        "arn:aws:s3:::tensors/x",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/x",
        f"s3://tensors/tasks/{ALICE}/../{EVE}/x",
        f"s3://tensors/tasks/{ALICE}/%2e%2e/{EVE}/x",
        f"s3://tensors/tasks/{ALICE}//x",
        f"s3://tensors/tasks/{ALICE}/./x",
        f"s3://tensors@evil.example/tasks/{ALICE}/x",
        f"s3://tensors:80/tasks/{ALICE}/x",
        f"s3://tensors/tasks/{ALICE}/x?versionId=1",
        f"s3://tensors/tasks/{ALICE}\\x",
        f"s3:///tensors/tasks/{ALICE}/x",
        f"s3://../tasks/{ALICE}/x",
        f"S3://tensors/tasks/{ALICE}/x",
        f"file://host/srv/tensors/{ALICE}/x",
        f"file:/srv/tensors/{ALICE}/x",
        f"file:///srv/tensors/{ALICE}/../../../etc/passwd",
        f"file:///srv/tensors/{ALICE}/x\n",
        f"file:///srv/tensors/{ALICE}/x\0",
        "http://169.254.169.254/latest/meta-data/",
        "gopher://127.0.0.1/x",
        f"s3://tensors/tasks/{ALICE}/" + "x" * 400,
        "s3://tensors/tasks/\u0430/x",
    ],
)
def test_a_hostile_uri_is_no_uri_at_all(uri):
    with pytest.raises(InvalidUri):
        parse_tensor_uri(uri)
