"""What comes from outside is data and never a program: no evaluation, no unsafe loading, no script or command made of it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import yaml

from deploy.desired_state.document import _StrictLoader
from ingress.admin.log.scans import COMMAND
from tests.support.calls_in_code import ROOT, parsed_files

_EVALUATES: Final = {"eval", "exec", "compile", "__import__"}
_MADE_OF_SCHEMAS: Final = {"schemas/straight_decoding.py", "schemas/straight_encoding.py"}
"""Functions made once of the schema files of this package, before any record is read (ADR 0117)."""
_LOADS_OBJECTS: Final = {"marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
_SAFE_YAML: Final = {
    "safe_load",
    "safe_dump",
    "SafeLoader",
    "YAMLError",
    "MappingNode",
    "ScalarNode",
}
_OUR_LOADER: Final = "deploy/desired_state/document.py"
_SHELLS: Final = ("create_subprocess_shell", "os.system", "os.popen", "getoutput")
_PROGRAMS: Final = {"ingress/admin/log/scans.py", "accounting/rebuild/folders.py"}
"""Processes that start one of their own modules: scans of the log, and rebuilds."""
_LIBRARIES: Final = {"schemas/runtime/ledger/functions.py", "schemas/runtime/valkey/bus.py"}
"""Where the functions of the stores are loaded: files of this package and times of ours."""
_LUA: Final = sorted((ROOT / "schemas/runtime").rglob("*.lua"))


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for path, tree in parsed_files():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield path, node


def _imports() -> Iterator[tuple[str, str]]:
    for path, tree in parsed_files():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                yield path, node.module


def test_nothing_is_evaluated_but_code_made_of_our_schemas() -> None:
    """S24: no text becomes a program that anybody sent."""
    evaluated = {
        (path, node.func.id)
        for path, node in _calls()
        if isinstance(node.func, ast.Name) and node.func.id in _EVALUATES
    }

    assert evaluated == {(path, "exec") for path in _MADE_OF_SCHEMAS}


def test_nothing_that_makes_objects_of_bytes_is_imported() -> None:
    """S24: records are Avro, documents are JSON; of pickle says the same a house rule."""
    assert [each for each in _imports() if each[1].partition(".")[0] in _LOADS_OBJECTS] == []


def test_yaml_is_loaded_as_plain_values() -> None:
    """S24: by the loader that knows no tags of Python; ours refuses more than that one, not less."""
    used = {
        (path, node.attr)
        for path, tree in parsed_files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "yaml"
    }
    loaders = [
        (path, ast.unparse(keyword.value))
        for path, node in _calls()
        if ast.unparse(node.func) == "yaml.load"
        for keyword in node.keywords
    ]

    assert used, "the walk finds what is there"
    more = {(_OUR_LOADER, "load"), (_OUR_LOADER, "constructor")}
    assert {each for each in used if each[1] not in _SAFE_YAML} == more
    assert loaders == [(_OUR_LOADER, "_StrictLoader")]
    assert issubclass(_StrictLoader, yaml.SafeLoader)


def _constants(tree: ast.Module) -> set[str]:
    """Names of the module's texts that are written down as they are."""
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _words_behind(tree: ast.Module, wanted: set[str]) -> Iterator[ast.expr]:
    """What stands behind a word, in a call or in a command."""
    for node in ast.walk(tree):
        words = node.args if isinstance(node, ast.Call) else []
        words = node.elts if isinstance(node, ast.Tuple | ast.List) else words
        for word, behind in pairwise(words):
            if isinstance(word, ast.Constant) and word.value in wanted:
                yield behind


def test_a_script_is_a_text_that_is_written_down() -> None:
    """S3: whatever it is about comes as KEYS and ARGV."""
    scripts = [
        (path, tree, script)
        for path, tree in parsed_files()
        for script in _words_behind(tree, {"EVAL", "EVAL_RO"})
    ]

    assert len(scripts) > 4
    assert [
        (path, ast.unparse(script))
        for path, tree, script in scripts
        if not (isinstance(script, ast.Name) and script.id in _constants(tree))
    ] == []


def test_functions_of_the_stores_are_loaded_in_two_places() -> None:
    """S3: nothing of a request is near."""
    loaders = {
        path
        for path, tree in parsed_files()
        for word in _words_behind(tree, {"FUNCTION"})
        if ast.unparse(word) == "'LOAD'"
    }

    assert loaders == _LIBRARIES


def test_commands_inside_of_functions_are_written_down() -> None:
    """S3: none is chosen by a value, and no function makes another one."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in _LUA}
    chosen = {
        name: found
        for name, text in texts.items()
        if (found := re.findall(r"redis\.p?call\((?!'[A-Z]+'[,)]).*", text))
    }

    assert len(texts) > 10
    assert chosen == {}
    assert [
        name for name, text in texts.items() if re.search(r"\bload(string|file)?\(", text)
    ] == []


def test_no_shell_is_started() -> None:
    """S22, S24: a program has a list of arguments."""
    shells = [
        (path, ast.unparse(node.func))
        for path, node in _calls()
        if ast.unparse(node.func).endswith(_SHELLS)
        or any(keyword.arg == "shell" for keyword in node.keywords)
    ]

    assert shells == []


def test_no_answer_or_request_starts_a_program() -> None:
    """S22: the gateway runs no tool; what starts a process runs one of our own modules."""
    starters = {
        path
        for path, module in _imports()
        if not path.startswith("deploy/") and module.partition(".")[0] in {"subprocess", "pty"}
    } | {
        path
        for path, node in _calls()
        if not path.startswith("deploy/")
        and ast.unparse(node.func).rpartition(".")[2] in {"create_subprocess_exec", "execv", "fork"}
    }
    started = {
        ast.unparse(node.args[0])
        for path, node in _calls()
        if path in _PROGRAMS and ast.unparse(node.func).endswith("create_subprocess_exec")
    }

    assert starters == _PROGRAMS
    assert started == {"sys.executable", "*self.command"}
    assert (sys.executable, "-m", "ingress.admin.scan") == COMMAND


def test_ingress_trusts_no_host_and_reads_no_form() -> None:
    """S10: what frameworks had their holes in is not used: forms, files, and the host that a client names."""
    modules = {"staticfiles", "formparsers", "multipart", "python_multipart"}
    imported = [
        each
        for each in _imports()
        if each[0].startswith("ingress/") and modules & {*each[1].split(".")}
    ]
    used = [
        (path, ast.unparse(node))
        for path, tree in parsed_files()
        if path.startswith("ingress/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (
            node.attr == "form"
            or re.search(r"\.(base_)?url\.(hostname|netloc)$", ast.unparse(node))
        )
    ]

    assert imported == []
    assert used == []
