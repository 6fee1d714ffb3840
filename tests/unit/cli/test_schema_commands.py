"""``tallygate schemas``: the proof that every version reads every other, and the files for a registry."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.output import Exit
from deploy.schema_files.compatibility import problems_of
from deploy.schema_files.export import files_of
from schemas import codec
from schemas.codec import Published, published_schemas
from schemas.topics import TOPICS
from tests.unit.cli.scripted_admin import local

OURS = Path(codec.__file__).parent / "avro"


def folder_with(changed: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    """A folder in which a second version of one schema differs from the first."""
    listed = json.loads((OURS / "ids.json").read_text())["5"]
    schema = json.loads((OURS / listed["file"]).read_text())
    (folder / "a.avsc").write_text(json.dumps(schema))
    changed(schema)
    (folder / "b.avsc").write_text(json.dumps(schema))
    ids = {
        str(n): {"name": listed["name"], "version": n, "file": file}
        for n, file in ((1, "a.avsc"), (2, "b.avsc"))
    }
    (folder / "ids.json").write_text(json.dumps(ids))
    return folder


def test_what_is_published_passes_its_own_check() -> None:
    """Exit code 0, and the numbers."""
    code, data, _ = local("schemas", "check", "--json")

    assert code == Exit.OK
    assert json.loads(data) == {
        "ok": True,
        "schemas": len({one.name for one in published_schemas()}),
        "versions": len(published_schemas()),
        "problems": [],
    }


@pytest.mark.parametrize(
    ("changed", "field", "reader"),
    [
        (lambda s: s["fields"].append({"name": "fresh", "type": "string"}), "fresh", 2),
        (lambda s: s["fields"].pop(0), "usage_id", 1),
        (lambda s: s["fields"][1].update(type="boolean"), "request_id", 1),
    ],
    ids=["added without a default", "removed without a default", "another type"],
)
def test_a_version_that_cannot_be_read_is_named_with_its_field(
    changed: Callable[[dict[str, Any]], object], field: str, reader: int, tmp_path: Path
) -> None:
    """Exit code 1; both versions are said."""
    code, data, _ = local("schemas", "check", str(folder_with(changed, tmp_path)), "--json")
    found = json.loads(data)["problems"]

    assert code == Exit.FAILURE
    assert (found[0]["field"], found[0]["version"]) == (field, reader)
    assert found[0]["written_by"] == 3 - reader


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        (lambda s: s["fields"][0].update(type="nonsense"), ""),
        (lambda s: s["fields"][0].update(default=5), "usage_id"),
    ],
    ids=["a type that is none", "a default of another type"],
)
def test_a_schema_that_is_not_valid_is_a_problem_of_its_own(
    changed: Callable[[dict[str, Any]], object], field: str, tmp_path: Path
) -> None:
    """Avro's own library takes any default; a reader would fail on it years later."""
    code, data, _ = local("schemas", "check", str(folder_with(changed, tmp_path)), "--json")
    (found,) = json.loads(data)["problems"]

    assert code == Exit.FAILURE
    assert (found["field"], found["version"], found["written_by"]) == (field, 2, None)


def test_a_field_of_an_inner_record_is_named_by_its_path() -> None:
    """``holds.key`` and not the seventh element of the fifth."""
    admitted = next(one for one in published_schemas() if one.name == "RequestAdmitted")
    text = json.dumps(admitted.schema)
    inner = '{"name": "key", "type": "string"'
    assert inner in text
    other = json.loads(text.replace(inner, inner.replace("string", "int"), 1))
    found = problems_of([admitted, Published(99, admitted.name, 99, other)])

    assert {problem.field for problem in found} == {"holds.key"}


def test_a_folder_without_schemas_is_said_with_a_fix(tmp_path: Path) -> None:
    """No traceback."""
    code, _, story = local("schemas", "check", str(tmp_path))

    assert (code, story.startswith("error: ")) == (Exit.FAILURE, True)


def test_without_its_judge_the_check_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image of the processes leaves it out."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "avro" else found(n))
    code, _, story = local("schemas", "check")

    assert (code, "pip install avro" in story) == (Exit.FAILURE, True)


def test_every_topic_of_events_has_its_subjects(tmp_path: Path) -> None:
    """One kind of record: the topic's value; several: one subject for each."""
    code, _, _ = local("schemas", "export", str(tmp_path / "new"))
    listed = json.loads((tmp_path / "new" / "subjects.json").read_text())["subjects"]
    subjects = {entry["subject"] for entry in listed}

    assert code == Exit.OK
    assert {entry["topic"] for entry in listed} == {t.name for t in TOPICS if t.holds_events}
    assert "usage.records.v1-value" in subjects
    assert "inference.outcomes.v1-tallygate.v1.RequestFinished" in subjects
    assert {file["file"] for entry in listed for file in entry["versions"]} == {
        f"avro/{path.name}" for path in OURS.glob("*.avsc")
    }


def test_what_a_registry_is_asked_to_keep_is_the_schema_under_its_own_id() -> None:
    """A reader that knows only the registry resolves the id in the record's first bytes."""
    files = files_of(published_schemas(), TOPICS)
    usage = next(one for one in published_schemas() if one.name == "UsageRecorded")
    asked = json.loads(files["subjects/usage.records.v1-value/1.json"])

    assert (asked["schemaType"], asked["id"], asked["version"]) == ("AVRO", usage.schema_id, 1)
    assert json.loads(asked["schema"]) == usage.schema
    assert json.loads(files["avro/UsageRecorded.v1.avsc"]) == usage.schema


def test_a_folder_that_cannot_be_made_is_said_with_a_fix(tmp_path: Path) -> None:
    """No traceback."""
    (tmp_path / "file").write_text("")
    code, _, story = local("schemas", "export", str(tmp_path / "file"))

    assert (code, story.startswith("error: ")) == (Exit.FAILURE, True)
