"""A finding of ``tallygate doctor``: what is wrong, where, and the command to run; or that nothing is. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from schemas.printable import one_line

__all__ = ["FOREIGN", "Finding", "found", "quoted", "shown"]

FOREIGN: Final = frozenset(
    {
        "df",
        "kafka-acls.sh",
        "kafka-topics.sh",
        "openssl",
        "pip",
        "python3",
        "timedatectl",
        "valkey-cli",
    }
)
"""Programs of others that a finding may say to run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. ``run`` is a line for a shell, and empty when all is well; what follows a ``#`` in it is a remark."""

    check: str
    where: str
    text: str
    run: str = ""
    may_pass: bool = False
    """Whether a healthy gateway may look so for some seconds: it is looked at again before it is told."""

    @property
    def is_ok(self) -> bool:
        return not self.run

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "check": self.check,
            "ok": self.is_ok,
            "where": self.where,
            "text": self.text,
            "run": self.run,
        }

    def line(self) -> str:
        """As one line for people."""
        said = f"{self.where}: {self.text}" if self.where else self.text
        line = f"{'ok     ' if self.is_ok else 'problem'}  {self.check:<14} {said}"
        return one_line(line if self.is_ok else f"{line}  run: {self.run}")


def found(check: str, problems: Iterable[Finding], well: str, where: str = "") -> list[Finding]:
    """The problems of a check, or the one line that says that there are none."""
    return list(problems) or [Finding(check, where, well)]


def quoted(*words: object) -> str:
    """Words as a shell reads them, also where somebody else chose them."""
    return shlex.join([one_line(str(word)) for word in words])


def shown(numbers: Iterable[object]) -> str:
    """A list for people."""
    return ", ".join(map(str, numbers))
