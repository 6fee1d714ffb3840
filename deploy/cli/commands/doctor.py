"""``tallygate doctor``: what keeps the gateway from working, where, and the command to run.

It changes nothing. Every line is a check of its own; one that fails does not hide the others.
"""

from __future__ import annotations

from deploy.cli.command import Call, command, verbs
from deploy.cli.options import Brokers
from deploy.cli.output import Exit

APP = verbs()


@command(
    APP,
    "doctor",
    "tallygate doctor",
    "tallygate doctor --json",
    "tallygate doctor --brokers 'kafkas://operator:SECRET@kafka:9093?ssl_ca_certs=ca.pem'",
)
def doctor(call: Call, *, brokers: Brokers = None) -> int:
    """Check this machine and the running gateway.

    It changes nothing. Exit code 1 when something is wrong; each problem is one line: what, where, and the
    command to run.
    """
    from deploy.cli.doctor.asking import look, of_this_machine  # noqa: PLC0415 - help asks nobody

    with call.output.progress("asking the gateway and Kafka"):
        findings = [*of_this_machine(), *look(call, brokers)]
    is_well = all(finding.is_ok for finding in findings)
    checks = [finding.document() for finding in findings]
    call.output.result({"ok": is_well, "checks": checks}, "\n".join(f.line() for f in findings))
    return Exit.OK if is_well else Exit.FAILURE
