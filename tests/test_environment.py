"""What is written down of machine and process."""

from pathlib import Path

import pytest

from cifarlab import environment
from cifarlab.commands.train import train
from cifarlab.training.loop import Hooks
from tests.conftest import with_fields

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: another
flags\t\t: fpu
"""


@pytest.fixture
def cpuinfo(monkeypatch):
    """Let /proc/cpuinfo hold the given text; None for no such file."""

    def write(text):
        def read_text(path, **_):
            assert str(path) == "/proc/cpuinfo"
            if text is None:
                raise FileNotFoundError(path)
            return text

        monkeypatch.setattr(Path, "read_text", read_text)

    return write


def test_processor_is_named_with_the_instruction_sets_that_matter(cpuinfo):
    cpuinfo(XEON)
    assert environment._cpu_name() == "Intel(R) Xeon(R) Processor"
    assert environment._instruction_sets() == ["avx2", "avx512f", "avx512_bf16", "amx_bf16"]


def test_avx512_is_not_taken_for_avx512_bf16(cpuinfo):
    cpuinfo("flags\t: avx512f avx512_vnni\n")
    assert environment._instruction_sets() == ["avx512f"]


def test_without_cpuinfo_nothing_is_claimed(cpuinfo):
    cpuinfo(None)
    assert environment._instruction_sets() == []
    assert environment._cpu_name()


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
