"""Secrets by reference: what ``NAME_FILE`` points to is the value of ``NAME``, as container platforms mount secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE: Final = "_FILE"
BYTES_MAX: Final = 64 * 1024
"""No secret is larger; a file that is has been confused with another."""


def read_value(environment: Mapping[str, str], name: str) -> str | None:
    """The value of a variable, or what stands in the file that it is referred to, without the line's end.

    None where neither is given. Raises ``ValueError`` with a sentence that quotes no content: for both at once, and for a
    file that cannot be read, is empty, is no text, or is larger than 64 KiB.
    """
    path = environment.get(name + FILE)
    if not path:
        return environment.get(name)
    if environment.get(name):
        raise ValueError(f"{name} is given too; give one of them")
    try:
        with Path(path).open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > BYTES_MAX:
        raise ValueError(f"{path} is larger than {BYTES_MAX >> 10} KiB")
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text") from None
    if not text:
        raise ValueError(f"{path} is empty")
    return text
