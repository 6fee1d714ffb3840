"""The command line as a whole: options, exit codes, the form of errors."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from deploy.cli.client import refused
from deploy.cli.commands.models import ModelOptions, changed_model
from deploy.cli.limits import LimitOptions, changed_limits
from deploy.cli.main import run as run_command
from deploy.cli.output import CommandFailed, Exit, Output
from tests.unit.cli.scripted_admin import URL, Gateway, run


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["keys"],
        ["keys", "create"],
        ["orgs", "set", "acme", "--on-limit", "explode"],
        ["orgs", "set", "acme", "--burst", "0"],
        ["models", "set", "m", "--backend", "=1"],
        ["up", "--port", "70000"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    """Usage errors are three lines on stderr."""
    data, story = io.StringIO(), io.StringIO()

    assert run_command(arguments, Output(data, story, as_json=False)) == Exit.USAGE
    assert [line.split(":")[0].strip() for line in story.getvalue().splitlines()] == [
        "error", "why", "fix",
    ]  # fmt: skip
    assert data.getvalue() == ""


def test_a_gateway_that_is_away_ends_with_1() -> None:
    """Nothing listens there: what, why and fix, and no traceback."""
    data, story = io.StringIO(), io.StringIO()

    code = run_command(["keys", "list", "--url", URL], Output(data, story, as_json=False))

    assert code == Exit.FAILURE
    assert [line.split(":")[0].strip() for line in story.getvalue().splitlines()] == [
        "error", "why", "fix",
    ]  # fmt: skip
    assert data.getvalue() == ""


@pytest.mark.parametrize(("status", "code"), [(409, Exit.REFUSED), (503, Exit.BROKEN)])
def test_an_answer_with_an_error_status_has_its_own_exit_code(status: int, code: Exit) -> None:
    """4 for what we sent, 5 for what the gateway cannot do."""
    problem = {"title": "t", "detail": "d", "code": "c"}
    gateway = Gateway({"POST /keys": problem}, status)

    assert run(gateway, "keys", "create", "--org", "acme")[0] == code


def test_a_key_for_a_missing_organization_names_the_command_that_makes_it() -> None:
    """The fix can be pasted."""
    detail = "key/key_1: organization 'acme' does not exist"
    problem = {"title": "t", "detail": detail, "code": "reference_conflict"}

    failure = refused(httpx.Response(409, json=problem))

    assert "tallygate orgs set acme" in failure.text


def test_a_created_key_is_the_only_thing_on_stdout() -> None:
    """So that it can be assigned to a variable."""
    gateway = Gateway({"POST /keys": {"key": "tg_live_x", "key_id": "key_1", "org": "acme"}})

    code, data, _ = run(
        gateway, "keys", "create", "--org", "acme", "--rps", "5", "--burst", "20", "--name", "ci"
    )

    assert (code, data) == (Exit.OK, "tg_live_x\n")
    assert gateway.sent() == {
        "org": "acme",
        "name": "ci",
        "limits": {"requests_per_s": 5.0, "burst": 20},
    }


def test_a_created_key_as_json_has_its_three_fields() -> None:
    """The stable form for programs."""
    answer = {"key": "tg_live_x", "key_id": "key_1", "org": "acme"}

    _, data, _ = run(Gateway({"POST /keys": answer}), "keys", "create", "--org", "acme", "--json")

    assert json.loads(data) == answer


def test_a_budget_replaces_the_one_of_its_period_only() -> None:
    """Limits that are not named stay."""
    current = {
        "burst": 9,
        "budgets": [{"usd": "1", "period": "day"}, {"usd": "2", "period": "month"}],
    }
    wanted = LimitOptions(budget_usd="0.10", period="month")

    assert changed_limits(wanted, current) == {
        "burst": 9,
        "budgets": [{"usd": "1", "period": "day"}, {"usd": "0.10", "period": "month"}],
    }


def test_a_budget_without_a_period_is_a_usage_error() -> None:
    """There is no default period to guess."""
    with pytest.raises(CommandFailed) as failed:
        changed_limits(LimitOptions(budget_usd="1"), {})

    assert failed.value.code is Exit.USAGE


def test_setting_an_organization_names_the_version_that_was_read() -> None:
    """Two administrators cannot overwrite each other unseen."""
    answer = {
        "GET /orgs/acme": {"id": "acme", "version": 3, "name": "Acme", "limits": {"burst": 9}},
        "PUT /orgs/acme": {"version": 4},
    }
    gateway = Gateway(answer)

    run(gateway, "orgs", "set", "acme", "--on-limit", "defer")

    assert gateway.requests[-1].headers["if-match"] == "3"
    assert gateway.sent() == {"name": "Acme", "limits": {"burst": 9, "on_limit": "defer"}}


def test_setting_a_new_organization_requires_that_it_is_new() -> None:
    """Version 0 is: does not exist."""
    gateway = Gateway({"PUT /orgs/acme": {"version": 1}})

    run(gateway, "orgs", "set", "acme")

    assert gateway.requests[-1].headers["if-match"] == "0"


def test_a_models_other_fields_stay() -> None:
    """A new price does not lose the route."""
    current = {"id": "m", "version": 2, "backends": [{"backend": "a"}], "image_tokens": 9}
    wanted = ModelOptions(input_usd_per_mtok="0.5")

    assert changed_model("m", None, wanted, current) == {
        "backends": [{"backend": "a"}],
        "image_tokens": 9,
        "input_usd_per_mtok": "0.5",
    }


def test_a_new_model_takes_its_route_with_weights() -> None:
    """A weight that is not given is 1."""
    gateway = Gateway({"PUT /models/m": {"version": 1}})

    run(gateway, "models", "set", "m", "--backend", "a=3", "--backend", "b")

    assert gateway.sent() == {
        "backends": [{"backend": "a", "weight": 3}, {"backend": "b", "weight": 1}]
    }


def test_a_new_model_without_a_route_is_a_usage_error() -> None:
    """The gateway would refuse it anyway, with less to go on."""
    with pytest.raises(CommandFailed) as failed:
        changed_model("m", None, ModelOptions(), None)

    assert failed.value.code is Exit.USAGE


@pytest.mark.parametrize(("difference", "code"), [(0, Exit.OK), (-3, Exit.FAILURE)])
def test_verify_ends_with_1_unless_all_agrees(difference: int, code: Exit) -> None:
    """The last line is the verdict."""
    found = [{"org": "a", "what": "x", "field": "settled", "ledger": 0, "log": 3, "difference": -3}]
    answer = {
        "difference": abs(difference),
        "differences": found if difference else [],
        "organizations": 1,
        "usage_lines": 2,
        "since": "2026-10-13T00:00:00+00:00",
        "open_attempts": {"reserved": 0, "running": 0},
        "settled_not_booked": [],
        "shards": [{"shard": 0, "state": "differs" if difference else "equal", "why": ""}],
    }
    found_code, data, _ = run(Gateway({"GET /ledger/verify": answer}), "ledger", "verify")

    assert found_code == code
    assert data.splitlines()[-1] == f"difference {abs(difference)}"


def test_a_verification_from_the_beginning_is_asked_for_and_told() -> None:
    """To people; programs read it in the answer."""
    answer = {
        "difference": 0,
        "differences": [],
        "organizations": 1,
        "usage_lines": 2,
        "since": "2026-10-13T00:00:00+00:00",
        "open_attempts": {"reserved": 0, "running": 0},
        "settled_not_booked": [],
        "shards": [{"shard": 0, "state": "equal", "why": ""}],
        "checkpoint": {"made_anew": "asked for", "records_read": 2},
    }
    gateway = Gateway({"GET /ledger/verify": answer})

    _, _, story = run(gateway, "ledger", "verify", "--full")

    assert gateway.asked[0]["query"] == {"deadline_s": "15.0", "full": "true"}
    assert story == "the log was read from its beginning; checkpoint: asked for\n"


def test_a_verification_that_could_not_compare_a_shard_says_so() -> None:
    """Nothing differs, and nothing is proved."""
    answer = {
        "difference": 0,
        "differences": [],
        "organizations": 0,
        "usage_lines": 0,
        "since": "2026-10-13T00:00:00+00:00",
        "open_attempts": {"reserved": 0, "running": 0},
        "settled_not_booked": [],
        "shards": [
            {"shard": 0, "state": "equal", "why": ""},
            {"shard": 3, "state": "closed", "why": "restarted"},
        ],
    }

    code, data, _ = run(Gateway({"GET /ledger/verify": answer}), "ledger", "verify")

    assert code == Exit.PARTIAL
    assert data.splitlines()[-2:] == ["shard 3 is closed: restarted", "difference 0"]


def test_usage_as_csv_has_one_line_per_row_and_no_total() -> None:
    """So that a spreadsheet's own sum is right."""
    row = {"org": "acme", "requests": 2, "cost_usd": "0.000001000"}
    answer = {"by": ["org"], "rows": [row], "total": row}
    gateway = Gateway({"GET /usage": answer})

    _, data, _ = run(gateway, "usage", "report", "--by", "org", "--format", "csv")

    header, line = data.splitlines()
    assert (header[:13], header[-9:]) == ("org,requests,", ",cost_usd")
    assert (line[:7], line[-12:]) == ("acme,2,", ",0.000001000")


@pytest.mark.parametrize(
    ("difference", "gave_up", "code"),
    [
        (0, {}, Exit.OK),
        (0, {"usage.records.v1": "time"}, Exit.PARTIAL),
        (1, {"usage.records.v1": "time"}, Exit.FAILURE),
    ],
)
def test_reconcile_ends_with_1_unless_all_fits(
    difference: int, gave_up: dict[str, str], code: Exit
) -> None:
    """The last line is the verdict; what could not be read is said."""
    finding = {"kind": "usage_line_differs", "org": "a", "request_id": "r", "what": "r:1:0"}
    answer = {
        "from": "2026-11-25T20:00:00+00:00",
        "to": "2026-11-25T21:00:00+00:00",
        "gave_up": gave_up,
        "outcomes": 2,
        "usage_lines": 2,
        "waiting": 0,
        "difference": difference,
        "findings": [finding | {"detail": "the line says 3"}] * difference,
    }
    found_code, data, _ = run(Gateway({"GET /reconcile": answer}), "reconcile")

    assert found_code == code
    assert data.splitlines()[-1] == f"difference {difference}"


def test_doctor_names_what_the_control_plane_lacks() -> None:
    """While it cannot say how the others are."""
    problem = {"title": "t", "detail": "d", "code": "service_unavailable"}
    lacking = {"components": {"kafka": "ok", "ledger": "not connected"}}
    gateway = Gateway({"GET /status": problem, "GET /v1/status/readyz": lacking}, 503)

    code, data, _ = run(gateway, "doctor")

    assert "its ledger: not connected" in data
    assert "its kafka" not in data
    assert code == Exit.FAILURE
