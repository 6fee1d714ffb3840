"""Python imports this before anything else where ``PYTHONPATH`` names its folder: lets the workers of a stack
under test die where they are told to (``tests/chaos/dying.py``).
"""

from __future__ import annotations

import importlib
import os
import sys

_ROLES = ("limiter_worker", "dispatcher", "accounting")

if "TALLYGATE_TEST_DEATHBED" in os.environ and "-m" in sys.orig_argv:
    _role = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    if _role in _ROLES:
        importlib.import_module("tests.chaos.dying").lie_down(_role)
