"""``tallygate schemas``: prove the published schemas, and hand them to others."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.cli.command import command, noun
from deploy.cli.output import CommandFailed, Exit, Output
from deploy.cli.table import Table, table

if TYPE_CHECKING:
    from schemas.codec import Published

_COLUMNS = ("schema", "version", "written_by", "field", "text")

APP = noun("schemas", "Avro schemas of the topics.")


@command(APP, "check", "tallygate schemas check", "tallygate schemas check ./schemas/avro")
def check(
    output: Output,
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="an ids.json and its files, instead of our own"),
    ] = None,
) -> int:
    """Prove that every version is valid and reads every other.

    Avro's reference implementation is the judge. Exit code 1 when something is wrong, with its field.
    """
    if importlib.util.find_spec("avro") is None:
        raise CommandFailed(
            "this installation has no judge of schemas",
            "Avro's reference implementation is not in the image of the processes",
            "run it where tallygate was installed with pip or uv, or pip install avro",
        )
    # Imported here, because other commands work without it.
    from deploy.schema_files.compatibility import problems_of  # noqa: PLC0415

    published = _published(folder)
    problems = [asdict(problem) for problem in problems_of(published)]
    names = len({one.name for one in published})
    value = {"ok": not problems, "schemas": names, "versions": len(published), "problems": problems}
    verdict = f"{names} schemas, {len(published)} versions, {len(problems)} problems"
    parts: list[str | Table] = [table(_COLUMNS, problems), ""] if problems else []
    output.result(value, *parts, verdict)
    return Exit.FAILURE if problems else Exit.OK


@command(APP, "export", "tallygate schemas export ./registry")
def export(
    output: Output,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="is made; files of the same name are replaced")
    ],
) -> int:
    """Write schemas, ids and a schema registry's subjects to files.

    subjects.json lists each subject with its versions, ids and fingerprints; the files below
    subjects/ are the bodies that a registry in IMPORT mode takes.
    """
    from deploy.schema_files.export import files_of  # noqa: PLC0415 - help needs no Avro
    from schemas.topics import TOPICS  # noqa: PLC0415

    files = files_of(_published(None), TOPICS)
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(
            f"{folder} cannot be written", str(error), "name a folder that can be made"
        ) from error
    value = {"folder": str(folder), "files": sorted(files)}
    output.result(value, f"{len(files)} files in {folder}")
    return Exit.OK


def _published(folder: Path | None) -> Sequence[Published]:
    from schemas.codec import published_in, published_schemas  # noqa: PLC0415 - help needs no Avro

    if folder is None:
        return published_schemas()
    try:
        return published_in(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandFailed(
            f"{folder} holds no schemas",
            f"{type(error).__name__}: {error}",
            "name a folder with ids.json and the files that it lists",
        ) from error
