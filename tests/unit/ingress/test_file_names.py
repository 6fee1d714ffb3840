"""Where files stand in the store, and what their names tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.files.names import (
    StoredFile,
    content_path,
    description_path,
    descriptions_prefix,
    file_id,
    is_file_id,
    made_ms,
    newest_first,
    org_prefix,
    read_description,
)
from tests.support.configuration import NOW_MS

_ID = file_id(NOW_MS, bytes(10))
_ORGS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}", fullmatch=True)


@given(_ORGS, st.text(max_size=64), st.none() | st.text(max_size=64))
def test_a_path_tells_the_file_that_it_was_made_of(org: str, name: str, owner: str | None) -> None:
    """Whatever it is called, in parts that any file system takes."""
    file = StoredFile(_ID, 5, name, "batch", 1_700_000_000, owner)
    path = description_path(org, file)

    assert read_description(org, path) == file
    assert path.startswith(descriptions_prefix(org, _ID) + "/")
    assert all(
        0 < len(part.encode()) <= 400 and part not in {".", ".."} for part in path.split("/")
    )


@given(_ORGS, _ORGS)
def test_organizations_stand_apart(org: str, other: str) -> None:
    """Also those whose ids have slashes and dots, of which one begins as another does."""
    prefix = org_prefix(org)

    assert "/" not in prefix
    assert prefix not in {".", ".."}
    assert (prefix == org_prefix(other)) == (org == other)


@pytest.mark.parametrize("name", ["", "x", f"{_ID}/!!", f"{_ID}/bm9uZQ", "file-1/e30"])
def test_what_describes_no_file_is_none(name: str) -> None:
    """Others may write into a folder, too."""
    assert read_description("acme", f"{descriptions_prefix('acme')}/{name}") is None


def test_a_description_under_another_id_is_none() -> None:
    """What was copied by hand names the file that it was made for."""
    path = description_path("acme", StoredFile(_ID, 5, "a", "batch"))
    other = file_id(NOW_MS + 1, bytes(10))

    assert read_description("acme", path.replace(_ID, other)) is None


@pytest.mark.parametrize(
    "text",
    ["", "file-", _ID.upper(), _ID + "0", _ID + "\n", "../" + _ID, "file-" + "0" * 32, _ID[5:]],
)
def test_only_what_is_made_here_is_an_id(text: str) -> None:
    """So that no path goes anywhere else."""
    assert is_file_id(_ID)
    assert not is_file_id(text)
    with pytest.raises(ValueError, match="id"):
        made_ms(text)


def test_ids_sort_by_time() -> None:
    """Lists need no other order."""
    files = [StoredFile(file_id(NOW_MS + at, bytes(10)), 1, "a", "batch") for at in (1, 3, 2)]

    assert [made_ms(file.id) - NOW_MS for file in newest_first(files)] == [3, 2, 1]
    assert files[0].created_at_s == NOW_MS // 1_000
    assert content_path("acme", _ID) == f"acme/contents/{_ID}"


def test_a_file_is_seen_by_its_owner_until_its_end() -> None:
    """Programs see all of their organization."""
    file = StoredFile(_ID, 1, "a", "batch", expires_at_s=NOW_MS // 1_000, owner="ann")

    assert [file.is_open_to(owner, NOW_MS - 1_000) for owner in ("ann", "bob", None)] == [
        True,
        False,
        True,
    ]
    assert not file.is_open_to("ann", NOW_MS)
