"""``tallygate ledger verify``: the proof that no cent is missing; exit code 1 when one is."""

from __future__ import annotations

from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, finite
from deploy.cli.output import Exit, table

_COLUMNS = ("org", "what", "field", "ledger", "log", "difference")
_UNBOOKED_COLUMNS = ("org", "req", "finished_ms")
_ANSWER_MARGIN_S = 30.0


def register(commands: Commands) -> None:
    """Add the commands."""
    ledger = add_group(commands, "ledger", "balances and their proof")
    parser = add_command(ledger, "verify", "compare balances, usage tables and the log", verify)
    parser.add_argument(
        "--deadline-s", type=finite, default=15.0, help="how long accounting may catch up"
    )


def verify(call: Call) -> int:
    deadline_s = call.options.deadline_s
    answer: dict[str, Any] = call.admin().get(
        "/ledger/verify", {"deadline_s": str(deadline_s)}, timeout_s=deadline_s + _ANSWER_MARGIN_S
    )
    call.output.result(answer, _text(answer))
    return Exit.OK if answer["difference"] == 0 else Exit.FAILURE


def _text(answer: dict[str, Any]) -> str:
    attempts = answer["open_attempts"]
    lines = [
        f"organizations {answer['organizations']}",
        f"usage lines {answer['usage_lines']} since {answer['since']}",
        f"open attempts {attempts['reserved']} reserved, {attempts['running']} running",
    ]
    if answer["differences"]:
        lines += ["", table(_COLUMNS, answer["differences"]), ""]
    if answer["settled_not_booked"]:
        lines += [
            "settled, not booked:",
            table(_UNBOOKED_COLUMNS, answer["settled_not_booked"]),
            "",
        ]
    return "\n".join([*lines, f"difference {answer['difference']}"])
