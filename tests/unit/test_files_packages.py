import hashlib
import logging
from pathlib import Path

import pytest

from compute.storage import packages as packages_module
from compute.storage.files import FileStorage
from compute.storage.packages import Packages
from requester.publish import publish_package
from shared.errors import InputMissing, StorageUnavailable
from shared.ids import ModelId, Requester
from shared.uris import parse_prefix

ALICE = Requester("4Nd1mYbq3kQ6oCk7z8Hn5m2tP9vXw1rJ6sLfGhTdUeA")
PACKAGE = b'{"a": "package"}'
HASH = hashlib.sha256(PACKAGE).hexdigest()


class Places:
    """A model store and an allowed prefix in local folders."""

    def __init__(self, folder: Path) -> None:
        self.store, self.prefix = folder / "store", folder / "prefix"
        for root in (self.store, self.prefix):
            root.mkdir()
        self.roots = [parse_prefix(f"file://{root}") for root in (self.store, self.prefix)]
        self.storage = FileStorage(self.roots)

    def packages(self, *, catalogue=None, max_bytes: int = 1000) -> Packages:
        return Packages(
            self.storage,
            model_stores=self.roots[:1],
            allowed_prefixes=self.roots[1:],
            catalogue=catalogue or {},
            max_bytes=max_bytes,
        )

    async def find(self, model: str = HASH, *, catalogue=None) -> bytes:
        return await self.packages(catalogue=catalogue).find(ModelId(model), ALICE)


@pytest.fixture
def places(tmp_path: Path):
    made = Places(tmp_path)
    yield made
    made.storage.close()


def put(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{HASH}.json").write_bytes(content)


@pytest.mark.parametrize("place", ["store", f"prefix/{ALICE}", "prefix/public"])
async def test_a_package_is_found_in_each_of_its_places(tmp_path, places, place):
    put(tmp_path / place, PACKAGE)
    assert await places.find() == PACKAGE


async def test_a_published_package_is_found_by_the_id_that_publishing_gave(places):
    model = await publish_package(places.storage, places.roots[1], ALICE, PACKAGE)
    assert await places.find(model) == PACKAGE


async def test_a_package_beside_another_requesters_tensors_is_not_found(tmp_path, places):
    put(tmp_path / "prefix/9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin", PACKAGE)
    with pytest.raises(InputMissing) as raised:
        await places.find()
    for looked in (f"/store/{HASH}.json", f"/prefix/{ALICE}/{HASH}.json", f"/prefix/public/{HASH}.json"):
        assert looked in str(raised.value)


@pytest.mark.parametrize("wrong", [b"another", PACKAGE + b" " * 1000, b""])
async def test_an_object_that_is_not_the_package_is_skipped_and_logged(tmp_path, places, caplog, wrong):
    put(tmp_path / "store", wrong)
    put(tmp_path / "prefix/public", PACKAGE)
    with caplog.at_level(logging.WARNING):
        assert await places.find() == PACKAGE
    assert [record.message for record in caplog.records] == ["a package was skipped"]


async def test_a_name_of_the_catalogue_stands_for_its_hash_and_others_are_unknown(tmp_path, places):
    put(tmp_path / "store", PACKAGE)
    assert await places.find("minilm", catalogue={"minilm": HASH}) == PACKAGE
    with pytest.raises(InputMissing, match="catalogue"):
        await places.find("other", catalogue={"minilm": HASH})
    with pytest.raises(InputMissing, match="catalogue"):
        await places.find(HASH.upper())


async def test_a_place_that_does_not_answer_is_passed_over_but_not_taken_for_empty(tmp_path, places):
    places.store.rmdir()
    with pytest.raises(StorageUnavailable):
        await places.find()
    put(tmp_path / "prefix/public", PACKAGE)
    assert await places.find() == PACKAGE


async def test_what_was_found_is_kept_for_its_requester_alone(tmp_path, places):
    packages = places.packages()
    put(tmp_path / f"prefix/{ALICE}", PACKAGE)
    assert await packages.find(ModelId(HASH), ALICE) == PACKAGE
    (tmp_path / f"prefix/{ALICE}/{HASH}.json").unlink()
    assert await packages.find(ModelId(HASH), ALICE) == PACKAGE
    with pytest.raises(InputMissing):
        await packages.find(ModelId(HASH), Requester("9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin"))


async def test_of_what_is_kept_the_package_goes_that_was_asked_for_the_longest_time_ago(
    tmp_path, places, monkeypatch
):
    monkeypatch.setattr(packages_module, "KEPT_BYTES", 2 * len(PACKAGE))
    packages = places.packages()
    contents = [PACKAGE.replace(b"a", letter) for letter in (b"1", b"2", b"3")]
    models = [await publish_package(places.storage, places.roots[1], ALICE, content) for content in contents]
    for asked in (0, 1, 0, 2):
        assert await packages.find(models[asked], ALICE) == contents[asked]
    for model in models:
        (tmp_path / f"prefix/{ALICE}/{model}.json").unlink()
    assert await packages.find(models[0], ALICE) == contents[0]
    with pytest.raises(InputMissing):
        await packages.find(models[1], ALICE)
    assert await packages.find(models[2], ALICE) == contents[2]
