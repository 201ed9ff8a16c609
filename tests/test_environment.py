"""What is written down of machine and process."""

from pathlib import Path

import pytest

from cifarlab import environment
from cifarlab.commands.train import train
from cifarlab.training.loop import Hooks
from tests.conftest import with_fields


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_peak_memory_sees_what_was_held_and_given_back():
    before = environment.peak_memory()
    block = bytearray(300_000_000)
    del block
    assert 0 < before < environment.peak_memory()


def test_a_run_records_when_its_first_step_was_done(config, splits):
    seen = []
    config = with_fields(config, train__epochs=1)
    hooks = Hooks(on_step=lambda report: seen.append(report.step))
    run = train(config, splits=splits, hooks=hooks, started=environment.process_start())
    result = run.read_json("result.json")
    assert seen == [1, 2, 3, 4]
    assert 0 < result["seconds_to_first_step"] < result["wall_clock_seconds"]
    assert result["peak_memory_bytes"] > 50e6
