"""Loops compiled ahead of time: kept for later processes, which need no compiler, and told plainly if they fail."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch._inductor import cpu_vec_isa

from cifarlab.errors import RunError
from cifarlab.models import loops
from cifarlab.models.loops import Loop

LATER = """
import sys, torch
from cifarlab.models import fused
x = torch.randn(2, 9, 11, 5)
assert torch.equal(fused._pool_loop(x)[0], fused._pool(x)[0])
print([name for name in ("torch._dynamo", "torch._inductor.codecache") if name in sys.modules])
"""


def add_and_double(x_NC, y_C):
    return x_NC + y_C, 2 * x_NC


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cifarlab" / "loops"


def make_loop():
    return Loop(add_and_double, "add", lambda dtype: (torch.zeros(300, 40, dtype=dtype), torch.zeros(40)))


def test_a_compiler_older_than_the_processor_is_asked_what_it_can_do(monkeypatch):
    asked = []

    def compile_nothing(program, *, package_path, inductor_configs):
        asked.append(inductor_configs)
        if inductor_configs.get("cpp.vec_isa_ok"):
            raise RuntimeError("unrecognized command-line option '-mamx-bf16'")
        Path(package_path).touch()
        return package_path

    forgotten = []
    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_nothing)
    monkeypatch.setattr(cpu_vec_isa.valid_vec_isa_list, "cache_clear", lambda: forgotten.append(1))
    monkeypatch.setattr(loops, "_open", lambda package: lambda tensors: list(add_and_double(*tensors)))
    x, y = torch.ones(3, 4), torch.ones(4)
    assert torch.equal(make_loop()(x, y)[0], x + y)
    assert [options.get("cpp.vec_isa_ok") for options in asked] == [True, None]
    assert forgotten == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="where the user's cache lies is told by XDG_CACHE_HOME")
def test_a_failure_is_one_line_that_says_what_to_do_and_leaves_nothing(cache, monkeypatch):
    def fail(*args, **options):
        raise OSError("no space left on device\nand more")

    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(
        RunError, match=r"compiling add failed \(no space left on device\); train with --train.no-compile"
    ):
        make_loop()(torch.zeros(3, 4), torch.zeros(4))
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["cut short", "a page of zeros", "none"])
def test_a_damaged_file_is_made_anew_and_its_code_never_run(monkeypatch, damage):
    loop, x, y = make_loop(), torch.ones(3, 4), torch.ones(4)
    package = loop._package(torch.float32)
    package.parent.mkdir(parents=True)
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("model.so", bytes(range(256)) * 64)
    whole = package.read_bytes()
    holed = whole[:4096] + bytes(4096) + whole[8192:]
    package.write_bytes({"cut short": b"PK\x03\x04 and no more", "a page of zeros": holed, "none": whole}[damage])
    opened = []
    monkeypatch.setattr(
        loops, "_open", lambda package: opened.append(1) or (lambda tensors: list(add_and_double(x, y)))
    )
    monkeypatch.setattr(Loop, "_compile", lambda self, package, dtype: lambda tensors: list(add_and_double(*tensors)))
    assert torch.equal(loop(x, y)[0], x + y)
    assert opened == [1] * (damage == "none")


@pytest.mark.skipif(sys.platform != "linux", reason="where the user's cache lies is told by XDG_CACHE_HOME")
@pytest.mark.parametrize("writable", [True, False])
def test_where_nothing_can_be_kept_it_is_compiled_for_this_process(tmp_path, monkeypatch, writable):
    if not writable:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))

    def compile_nothing(program, *, package_path, inductor_configs):
        Path(package_path).write_bytes(b"compiled")
        return package_path

    def load(package):
        assert package.read_bytes() == b"compiled"
        return lambda tensors: list(add_and_double(*tensors))

    monkeypatch.setattr(torch.export, "export", lambda *args, **options: None)
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_nothing)
    monkeypatch.setattr(loops, "_open", load)
    x, y = torch.ones(3, 4), torch.ones(4)
    loop = make_loop()
    assert torch.equal(loop(x, y)[0], x + y)
    assert loop.is_kept(torch.float32) == writable


def test_a_cache_in_a_folder_closed_to_us_is_no_cache(monkeypatch):
    def closed(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", closed)
    monkeypatch.setattr(Path, "mkdir", closed)
    monkeypatch.setattr(loops.zipfile, "ZipFile", closed)
    monkeypatch.setattr(Loop, "_compile", lambda self, package, dtype: lambda tensors: list(add_and_double(*tensors)))
    loop, x, y = make_loop(), torch.ones(3, 4), torch.ones(4)
    assert not loop.is_kept(torch.float32)
    assert torch.equal(loop(x, y)[0], x + y)
    assert loops._folder_for(loop._package(torch.float32)) is None


def test_what_is_kept_is_told_apart_by_all_it_depends_on(monkeypatch):
    kept = {make_loop()._package(dtype) for dtype in (torch.float32, torch.bfloat16)}
    assert make_loop()._package(torch.float32) in kept
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    kept.add(make_loop()._package(torch.float32))
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    kept.add(make_loop()._package(torch.float32))
    monkeypatch.setattr("inspect.getsource", lambda module: "other code")
    kept.add(make_loop()._package(torch.float32))
    monkeypatch.setattr(loops, "all_instruction_sets", lambda: "abacus avx2")
    kept.add(make_loop()._package(torch.float32))
    assert len(kept) == 6


@pytest.mark.slow
def test_it_computes_the_same_for_every_size_and_is_compiled_once(cache, monkeypatch):
    loop = make_loop()
    for rows, columns in ((300, 40), (1, 7), (33, 1)):
        x, y = torch.randn(rows, columns), torch.randn(columns)
        for ours, theirs in zip(loop(x, y), add_and_double(x, y), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".pt2"]
    monkeypatch.setattr(Loop, "_compile", None)
    assert torch.equal(make_loop()(x, y)[0], loop(x, y)[0])


@pytest.mark.slow
def test_a_later_process_loads_no_compiler():
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", LATER], capture_output=True, text=True, check=True, env=dict(os.environ)
        )
    assert done.stdout.strip() == "[]"
