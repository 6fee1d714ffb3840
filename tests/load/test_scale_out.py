"""Scale-out: processes are really held, and the model multiplies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from deploy.bench.process_cost import read_processes
from tests.load.holding import _stopping, held
from tests.load.scale_out import Step, cores, model, render

_SPIN = "while True: pass"


@pytest.mark.parametrize("hold", [lambda pid: held([pid], 0.2), lambda pid: _stopping([pid], 0.2)])
def test_a_held_process_has_its_share_of_a_core_and_no_more(
    hold: Callable[[int], AbstractContextManager[object]],
) -> None:
    """And is free afterwards. A busy machine may give it less."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as spinning:
        try:
            with hold(spinning.pid):
                before = read_processes({"it": spinning.pid})["it"].cpu_s
                time.sleep(1.0)
                used_s = read_processes({"it": spinning.pid})["it"].cpu_s - before
        finally:
            spinning.kill()

    assert 0.02 < used_s < 0.35


def test_cores_follow_from_rate_and_cpu_with_room_left() -> None:
    """A core is planned to be filled to 60 %."""
    assert cores(1_000, 0.6) == pytest.approx(1.0)
    assert "| all | 0.900 | 1.5 | 15.0 | 150.0 |" in model({"ingress": 0.3, "kafka": 0.6})


@pytest.mark.parametrize(("more", "says"), [(0.329, "flat within"), (0.34, "not flat")])
def test_flat_is_within_a_tenth_of_one_of_each(more: float, says: str) -> None:
    """In our processes together; broker and stores are not scaled out here."""
    steps = [Step(1, 100.0, {"ingress": 0.3, "kafka": 0.2}, 0.5, 0)]
    steps.append(Step(2, 190.0, {"ingress": more, "kafka": 9.0}, 0.7, 0))
    text = render(steps)

    assert "| 2 | 190 | 1.90 |" in text
    assert f"CPU per request is {says}" in text
