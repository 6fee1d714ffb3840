"""The one place where the command line prints, so that nothing foreign reaches a terminal as it is."""

from __future__ import annotations

from typing import TextIO

from schemas.printable import printable

_LINE_END = "\r\n"


def say(text: str, file: TextIO) -> None:
    """Print the text with control characters shown as their escapes; lines and tabs stay.

    A file that cannot write a character, such as one of ASCII, gets its escape.
    """
    shown = _LINE_END.join(map(printable, text.split(_LINE_END)))
    encoding = getattr(file, "encoding", None) or "utf-8"
    print(shown.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)
