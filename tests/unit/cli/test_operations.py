"""The commands that look into the log: what they ask for, what they print, how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.cli.output import Exit
from tests.unit.cli.commands_with_answers import LETTER
from tests.unit.cli.scripted_admin import Gateway, run


def test_audit_passes_its_filters_on_and_prints_the_detail() -> None:
    """One line per event; a search that gave up ends with 3."""
    event = {
        "at_ms": 1_700_000_000_000,
        "org": "acme",
        "action": "refused",
        "actor": "key_a",
        "request_id": "r1",
        "detail": {"code": "BUDGET_EXCEEDED", "limit": 5, "retry_after_ms": None},
    }
    answer = {"items": [event], "search": {"records": 1, "gave_up": "time"}}
    gateway = Gateway({"GET /audit": answer})

    code, data, story = run(gateway, "audit", "list", "--org", "acme", "--from", "2023-11-14")

    assert dict(gateway.requests[0].url.params) == {"org": "acme", "from": "2023-11-14"}
    assert "refused  key_a  r1       code=BUDGET_EXCEEDED  limit=5" in data
    assert (code, "gave up" in story) == (Exit.PARTIAL, True)


def test_dead_letters_are_counted_per_topic_and_the_newest_are_listed() -> None:
    """With the id that show and retry take."""
    topics = [
        {"topic": "inference.requests.v1", "count": 1, "newest": [LETTER]},
        {"topic": "inference.dispatch.v1", "count": 0, "newest": []},
    ]

    _, data, _ = run(Gateway({"GET /dlq": {"items": topics}}), "dlq", "list")

    assert "inference.requests.v1      1  2023-11-14T22:13:20+00:00" in data
    assert "inference.requests.v1.dlq-2@14" in data


def test_a_dead_letter_is_shown_with_its_reason_and_bytes() -> None:
    """Hex where it cannot be decoded."""
    letter = LETTER | {
        "reason": {"stage": "decode", "exception.message": "not published"},
        "headers": {"traceparent": "00-1"},
        "retried_at_ms": None,
        "malformed": "too short",
        "hex": "ff",
        "is_cut": False,
    }
    gateway = Gateway({f"GET /dlq/{LETTER['id']}": letter})

    _, data, _ = run(gateway, "dlq", "show", str(LETTER["id"]))

    assert "exception.message   not published" in data
    assert "header traceparent  00-1" in data
    assert "1 bytes, hex: ff" in data


def test_a_retry_says_where_the_record_stands_and_warns_if_it_is_in_vain() -> None:
    """The options go into the body."""
    answer = {"topic": "t", "partition": 1, "offset": 5, "bytes": 1, "warning": "no effect"}
    gateway = Gateway({f"POST /dlq/{LETTER['id']}/retry": answer})

    code, data, story = run(gateway, "dlq", "retry", str(LETTER["id"]), "--again")

    assert json.loads(gateway.requests[0].content) == {"again": True, "dry_run": False}
    assert (code, data, story) == (Exit.OK, "appended to t-1@5\n", "warning: no effect\n")


def test_lag_is_shown_in_records_and_seconds() -> None:
    """What is not known is a dash."""
    row = {"group": "g", "topic": "t", "partition": 0, "committed": 4, "end": 9, "lag": 5}
    rows = [row | {"lag_ms": 1_499}, row | {"partition": 1, "committed": None, "lag_ms": None}]

    _, data, _ = run(Gateway({"GET /lag": {"items": rows}}), "lag")

    assert [line.split() for line in data.splitlines()[1:]] == [
        ["g", "t", "0", "4", "9", "5", "1.5"],
        ["g", "t", "1", "-", "9", "5", "-"],
    ]


def test_a_request_that_was_not_searched_to_the_end_ends_with_3() -> None:
    """The JSON is printed all the same."""
    step = {"what": "deferred", "at_ms": 1, "place": "t-0@1", "note": None}
    answer = {
        "request_id": "r",
        "org": "acme",
        "status": "open",
        "http_status": None,
        "error_code": None,
        "steps": [step | {"facts": {"not_before_ms": None}}],
        "search": {"records": 5, "gave_up": "records"},
    }

    code, data, _ = run(Gateway({"GET /requests/r": answer}), "requests", "show", "r", "--json")

    assert (code, json.loads(data)) == (Exit.PARTIAL, answer)


def test_backends_show_what_each_dispatcher_says() -> None:
    """And a dash while none says anything."""
    items: list[dict[str, Any]] = [
        {"id": "a", "state": "active", "health": [{"instance": "dispatcher-0", "state": "open"}]},
        {"id": "b", "state": "active", "health": []},
    ]

    _, data, _ = run(Gateway({"GET /backends": {"items": items}}), "backends", "list")

    assert [line.split()[3] for line in data.splitlines()[1:]] == ["dispatcher-0=open", "-"]


CURRENT: dict[str, Any] = {
    f"GET /{kind}": {"items": []}
    for kind in ("backends", "models", "orgs", "projects", "users", "keys", "overrides")
}


def test_apply_writes_in_order_and_against_the_version_it_read(tmp_path: Path) -> None:
    """New ones only if they are still new."""
    file = tmp_path / "t.yaml"
    file.write_text("projects: {p: {org: acme}}\norgs: {acme: {name: A}}")
    acme = {"id": "acme", "version": 3, "name": None, "limits": {}}
    answers = CURRENT | {"GET /orgs": {"items": [acme]}}
    gateway = Gateway(answers | {"PUT /orgs/acme": {}, "PUT /projects/p": {}})

    code, data, _ = run(gateway, "config", "apply", "-f", str(file))

    puts = [r for r in gateway.requests if r.method == "PUT"]
    assert [r.url.path.rpartition("/")[2] for r in puts] == ["acme", "p"]
    assert [r.headers["if-match"] for r in puts] == ["3", "0"]
    assert code == Exit.OK
    assert data.splitlines() == ["~ orgs.acme", '    name: null -> "A"', "+ projects.p"]


def test_apply_that_is_stopped_half_way_ends_with_3(tmp_path: Path) -> None:
    """It says how far it got."""
    file = tmp_path / "t.yaml"
    file.write_text("orgs: {a: , b: }")

    code, _, story = run(Gateway(CURRENT | {"PUT /orgs/a": {}}), "config", "apply", "-f", str(file))

    assert code == Exit.PARTIAL
    assert story.splitlines()[0] == "1 of 2 changes were made, then:"


def test_nothing_is_written_while_anything_is_wrong(tmp_path: Path) -> None:
    """Every problem is a line."""
    file = tmp_path / "t.yaml"
    file.write_text("orgs: {a: }\nprojects: {p: {org: b}, q: {org: c}}")
    gateway = Gateway(CURRENT)

    code, _, story = run(gateway, "config", "apply", "-f", str(file))

    assert code == Exit.FAILURE
    assert {r.method for r in gateway.requests} == {"GET"}
    assert sum("does not exist" in line for line in story.splitlines()) == 2


def test_pruning_deletes_at_the_version_it_read(tmp_path: Path) -> None:
    """Somebody else's change since then is not lost."""
    file = tmp_path / "t.yaml"
    file.write_text("orgs: {a: }")
    items: list[dict[str, Any]] = [{"id": name, "version": 2, "limits": {}} for name in ("a", "b")]
    gateway = Gateway(CURRENT | {"GET /orgs": {"items": items}, "DELETE /orgs/b": {}})

    _, data, _ = run(gateway, "config", "apply", "-f", str(file), "--prune")

    assert data == "- orgs.b\n"
    assert gateway.requests[-1].method == "DELETE"
    assert gateway.requests[-1].headers["if-match"] == "2"


def test_status_shows_who_is_behind_and_what_was_refused() -> None:
    """Per process; a refused entry is named with its reason."""
    instance = {"name": "ingress-0", "role": "ingress", "offset": 7, "age_ms": 1_200, "live": True}
    config = {"offset": 9, "following": True, "problems": [{"where": "model/m", "what": "bad"}]}
    answer = {"instances": [instance], "config": config, "kafka_brokers": "x"}

    _, data, _ = run(Gateway({"GET /status": answer}), "config", "status")

    assert data.splitlines()[2].split() == ["ingress-0", "ingress", "7", "2", "1.2", "yes"]
    assert data.splitlines()[3] == "refused  model/m: bad"


def test_accepting_a_shorter_log_says_below_which_offset_it_ends() -> None:
    """And whether this process has followed."""
    for adopted, code in ((True, Exit.OK), (False, Exit.PARTIAL)):
        answer = {"ended_below": 20, "offset": 3, "adopted": adopted}
        found = run(Gateway({"POST /config/adopt": answer}), "config", "adopt")

        assert found[0] == code
        assert "below offset 20" in found[1]


def test_the_status_shows_the_alarm_of_a_shorter_log() -> None:
    """Above everything that was refused."""
    config = {"offset": 20, "following": True, "alarm": "the log is shorter", "problems": []}
    gateway = Gateway({"GET /status": {"instances": [], "config": config}})

    _, text, _ = run(gateway, "config", "status")

    assert "alarm    the log is shorter" in text
