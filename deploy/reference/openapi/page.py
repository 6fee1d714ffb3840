"""The API as a page for people: one file of HTML without a script, which asks nothing of any other host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from deploy.reference.openapi.document import document

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--link:#2563eb}
@media(prefers-color-scheme:dark){:root{--link:#8ab4ff}}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:70rem;padding:1rem}
code,pre{font:13px/1.5 ui-monospace,monospace}
a{color:var(--link)}
table{border-collapse:collapse;width:100%;margin:.4rem 0}
th,td{text-align:left;vertical-align:top;padding:.2rem .6rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.3rem .7rem}
summary{cursor:pointer}
summary code:first-child{font-weight:700;display:inline-block;min-width:4.5rem}
:target{background:var(--soft)}
"""
_SECTIONS: Final = {
    "native": "Native surface",
    "openai": "OpenAI's surface",
    "anthropic": "Anthropic's surface",
    "admin": "Admin API",
}
_CODE: Final = re.compile(r"`([^`]+)`")
_REFERENCE: Final = "#/components/"


def html_page() -> str:
    """The page."""
    told = document()
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        "<!-- Made by `make docs` from the routes and shapes of the code; change those, not this. -->",
        f"<title>{escape(told['info']['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(told['info']['title'])}</h1><p>{_prose(told['info']['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a>. ',
        "Public routes take an API key as <code>Authorization: Bearer</code> or <code>X-API-Key</code>.</p>",
        "<nav><ul>",
        *(f'<li><a href="#{tag}">{title}</a></li>' for tag, title in _SECTIONS.items()),
        '<li><a href="#schemas">Schemas</a></li></ul></nav>',
    ]
    for tag, title in _SECTIONS.items():
        parts += [f'<h2 id="{tag}">{title}</h2>', *_operations(told, tag)]
    parts += ['<h2 id="schemas">Schemas</h2>', *_schemas(told["components"]["schemas"])]
    return "\n".join([*parts, "</body></html>", ""])


def _operations(told: Mapping[str, Any], tag: str) -> Iterator[str]:
    for path, item in told["paths"].items():
        for method, operation in item.items():
            if method != "servers" and operation["tags"] == [tag]:
                yield from _operation(path, method, operation, told["components"]["responses"])


def _operation(
    path: str, method: str, operation: Mapping[str, Any], responses: Mapping[str, Any]
) -> Iterator[str]:
    yield f'<details id="{escape(operation["operationId"])}"><summary><code>{method.upper()}</code> '
    yield f"<code>{escape(path)}</code> {_prose(operation['summary'])}</summary>"
    rows = [
        (_code(each["name"]), each["in"], _type(each["schema"]), _prose(each["description"]))
        for each in operation.get("parameters", ())
    ]
    if rows:
        yield from _table(("parameter", "in", "type", "meaning"), rows)
    if "requestBody" in operation:
        yield f"<p>Body: {_content(operation['requestBody']['content'])}</p>"
    answers = []
    for status, response in operation["responses"].items():
        whole = responses[_name(response["$ref"])] if "$ref" in response else response
        content = _content(whole.get("content", {}))
        answers.append((_code(status), _prose(whole["description"]), content))
    yield from _table(("status", "meaning", "body"), answers)
    yield "</details>"


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        yield f'<details id="schema-{name}" open><summary><code>{name}</code> {_prose(schema.get("description", ""))}</summary>'
        required = schema.get("required", ())
        rows = [
            (
                _code(field),
                _type(each),
                "required" if field in required else "",
                _prose(each.get("description", "")),
            )
            for field, each in schema.get("properties", {}).items()
        ]
        if rows:
            yield from _table(("field", "type", "", "meaning"), rows)
        elif "enum" in schema:
            yield f"<p>{_type(schema)}</p>"
        yield "</details>"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The cells of the rows are HTML already."""
    yield "<table><tr>" + "".join(f"<th>{column}</th>" for column in columns) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    yield "</table>"


def _content(content: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{_code(media)} {_type(each['schema']) if 'schema' in each else ''}".strip()
        for media, each in content.items()
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = _name(schema["$ref"])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    if "enum" in schema:
        return ", ".join(_code(str(each)) for each in schema["enum"])
    kind = schema.get("type", "anything")
    kinds = " or ".join(kind) if isinstance(kind, list) else kind
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = [
        f"{word} {schema[name]}"
        for name, word in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
        if name in schema
    ]
    return escape(" ".join([kinds, *bounds]))


def _name(reference: str) -> str:
    return reference.removeprefix(_REFERENCE).partition("/")[2]


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
