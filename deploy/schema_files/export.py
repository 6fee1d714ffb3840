"""The published schemas as files, and as what a schema registry is asked to keep. Pure.

Subjects follow the registry's own strategies: ``<topic>-value`` where a topic has one kind of record, and
``<topic>-<record>`` where it has several. Ids are ours, so a registry has to be in IMPORT mode to take them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastavro.schema import fingerprint, to_parsing_canonical_form

from schemas.codec import Published
from schemas.topics import Topic

INDEX = "subjects.json"


def files_of(published: Sequence[Published], topics: Sequence[Topic]) -> dict[str, str]:
    """File by path below the folder: schemas, an index of subjects, and a registry's request bodies."""
    subjects = [
        {"subject": subject, "topic": topic.name, "versions": list(map(_version, versions))}
        for topic in topics
        for subject, versions in _subjects(topic, published)
    ]
    files = {f"avro/{_file(one)}": _pretty(one.schema) for one in published}
    files[INDEX] = _pretty({"subjects": subjects})
    for topic in topics:
        for subject, versions in _subjects(topic, published):
            for one in versions:
                files[f"subjects/{subject}/{one.version}.json"] = _pretty(_request(one))
    return files


def _subjects(
    topic: Topic, published: Sequence[Published]
) -> Iterator[tuple[str, list[Published]]]:
    for record in topic.records if topic.holds_events else ():
        versions = [one for one in published if one.name == record]
        name = "value" if len(topic.records) == 1 else _full_name(versions[0])
        yield f"{topic.name}-{name}", versions


def _version(one: Published) -> dict[str, Any]:
    canonical = to_parsing_canonical_form(one.schema)
    return {
        "version": one.version,
        "id": one.schema_id,
        "record": _full_name(one),
        "file": f"avro/{_file(one)}",
        "crc_64_avro": fingerprint(canonical, "CRC-64-AVRO"),
        "sha_256": fingerprint(canonical, "SHA-256"),
    }


def _request(one: Published) -> Mapping[str, Any]:
    """The body of ``POST /subjects/<subject>/versions``."""
    text = json.dumps(one.schema, separators=(",", ":"))
    return {"schemaType": "AVRO", "schema": text, "id": one.schema_id, "version": one.version}


def _full_name(one: Published) -> str:
    return f"{one.schema['namespace']}.{one.name}"


def _file(one: Published) -> str:
    return f"{one.name}.v{one.version}.avsc"


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
