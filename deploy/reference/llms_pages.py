"""Pages for language models and whoever works with one, after llmstxt.org: what there is to read, and all of it as one file.

Sources are the pages in ``docs``, as they are: each stands in one section here, and a test holds that none is left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from schemas.api_pages import API_PAGE, LLMS_FULL, OPENAPI

__all__ = ["SECTIONS", "llms_full", "llms_of_repository", "llms_served"]

_ROOT: Final = Path(__file__).parents[2]
_FOR_CLIENTS: Final = (
    "docs/quick-reference.md",
    "docs/request-fields.md",
    "docs/responses.md",
    "docs/messages.md",
    "docs/batches.md",
    "docs/own-requests.md",
    "docs/files.md",
    "docs/webhooks.md",
    "docs/grpc.md",
    "docs/keys.md",
    "docs/reference/errors.md",
    "docs/flex.md",
    "docs/reference/operations.md",
)
SECTIONS: Final = {
    "For programs that call it": _FOR_CLIENTS,
    "For operators": (
        "docs/production-checklist.md",
        "docs/troubleshooting.md",
        "docs/watching.md",
        "docs/tracing.md",
        "docs/scale-out.md",
        "docs/kubernetes.md",
        "docs/capacity.md",
        "docs/callers.md",
        "docs/backends.md",
        "docs/usage-dialects.md",
        "docs/overrides.md",
        "docs/prices.md",
        "docs/external-budgets.md",
        "docs/large-organizations.md",
        "docs/replay.md",
        "docs/lost-ledger.md",
        "docs/reference/command-line.md",
        "docs/reference/settings.md",
        "docs/reference/admin-roles.md",
        "docs/reference/metrics.md",
        "docs/reference/log-events.md",
        "docs/reference/topics.md",
        "docs/reference/kafka-users.md",
        "docs/reference/store-users.md",
        "docs/reference/times.md",
    ),
    "For who changes it": (
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "GUARANTEES.md",
        "docs/glossary.md",
        "docs/life-of-a-request.md",
        "docs/security-checks.md",
        "docs/profile.md",
        "docs/bench-history.md",
        "docs/adr/README.md",
        "tests/README.md",
        "examples/README.md",
    ),
}
_SENTENCE: Final = re.compile(r"(?<=\.)\s")
_TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)
_SECTION: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NO_PROSE: Final = ("#", "|", "-", "<!", "Made by", " ")
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def llms_of_repository() -> str:
    """``llms.txt`` at the root: a line for each page."""
    parts = [_head()]
    for title, files in SECTIONS.items():
        lines = (f"- [{_title(file)}]({file}): {_first_sentence(file)}" for file in files)
        parts.append("\n".join([f"## {title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def llms_served() -> str:
    """``/llms.txt`` of a gateway that runs: all that a program needs is one request further."""
    return f"""{_head()}

A client is given this gateway's address and a key (`Authorization: Bearer`, or `X-API-Key`). SDKs of OpenAI take
`<address>/v1` as their base URL, those of Anthropic `<address>`. Models are at `/v1/models`, what is left of limits at `/v1/limits`.

## Pages

- [Everything for programs that call it]({LLMS_FULL}): {", ".join(map(_title, _FOR_CLIENTS))}
- [OpenAPI 3.1]({OPENAPI}): all routes, with their shapes
- [The same for people]({API_PAGE}): one page
"""


def llms_full() -> str:
    """``/llms-full.txt``: the pages for clients, one after the other, as they stand in the repository."""
    return "\n\n---\n\n".join(_text(file).strip() for file in _FOR_CLIENTS) + "\n"


def _head() -> str:
    readme = _text("README.md").splitlines()
    return f"{readme[0]}\n\n> {readme[2]}"


def _title(file: str) -> str:
    found = _TITLE.search(_text(file))
    assert found is not None, f"{file} has no title"
    return found[1]


def _first_sentence(file: str) -> str:
    """Of the page's first paragraph; of a page without one, its sections."""
    text = _CODE.sub("", _text(file))
    for paragraph in text.split("\n\n"):
        _, _, prose = paragraph.rpartition("# " + _title(file) + "\n")
        if prose and not prose.startswith(_NO_PROSE):
            words = _LINK.sub(r"\1", " ".join(prose.split()))
            return _SENTENCE.split(words, maxsplit=1)[0].rstrip(":")
    return ", ".join(_SECTION.findall(text))


def _text(file: str) -> str:
    return (_ROOT / file).read_text(encoding="utf-8")
