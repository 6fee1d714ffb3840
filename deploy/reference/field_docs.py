"""The texts under the fields of a class, read from its source: Python keeps them nowhere else."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise


def field_docs(described: type) -> dict[str, str]:
    """Field name -> the string that follows it, for the fields that the class itself states.

    A field that says nothing is not in it.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(described)))
    (stated,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    docs: dict[str, str] = {}
    for field, text in pairwise(stated.body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(doc))),
            ):
                docs[name] = doc
    return docs


def own_fields(described: type) -> tuple[str, ...]:
    """Names of the fields that the class itself states, in their order."""
    return tuple(
        name for name in inspect.get_annotations(described) if not name.startswith(("_", "model_"))
    )
