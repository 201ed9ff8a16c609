import pytest
import torch

from cifarlab import device as device_module
from cifarlab.device import (
    Bf16Check,
    autocast,
    c_compiler,
    check_bf16_on_cpu,
    choose_device,
    choose_precision,
    cpp_compiler,
    decide_compile,
    full_fp32,
)
from cifarlab.errors import UsageError
from cifarlab.seeding import derive_generator, derive_seed

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("requested", "error", "speedup", "expected"),
    [
        ("auto", 0.004, 2.0, "bf16"),
        ("auto", 0.004, 1.0, "fp32"),
        ("bf16", 0.004, 1.0, "bf16"),  # it was asked for, and what makes it slow may be what else the machine does
        *((requested, error, 2.0, "fp32") for requested in ("auto", "bf16") for error in (0.2, float("nan"))),
    ],
)
def test_bf16_is_taken_only_where_it_is_right_and_faster_or_asked_for(monkeypatch, requested, error, speedup, expected):
    monkeypatch.setattr(device_module, "check_bf16_on_cpu", lambda: Bf16Check(error, speedup))
    precision, line = choose_precision(requested, CPU)
    assert precision == expected
    assert bool(line) == (expected == "fp32")
    assert "\n" not in line


def test_fp32_is_never_checked(monkeypatch):
    monkeypatch.setattr(device_module, "check_bf16_on_cpu", lambda: pytest.fail("checked"))
    assert choose_precision("fp32", CPU) == ("fp32", "")


def test_the_check_measures_this_processor():
    check = check_bf16_on_cpu()
    assert 0 < check.relative_error < 0.02  # not equal to fp32, and not wrong
    assert check.speedup > 0


def test_a_wrong_convolution_is_noticed(monkeypatch):
    real = torch.nn.functional.conv2d

    def wrong_in_bf16(x, w, **keywords):
        y = real(x, w, **keywords)
        return y * 1.1 if y.dtype == torch.bfloat16 else y

    check_bf16_on_cpu.cache_clear()
    monkeypatch.setattr(device_module.F, "conv2d", wrong_in_bf16)
    try:
        assert not check_bf16_on_cpu().passed
    finally:
        check_bf16_on_cpu.cache_clear()


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 7), (0.3, 2)])
def test_the_check_ends_early_where_bf16_is_far_slower(seconds, rounds, monkeypatch):
    """As it is where a processor emulates it: seven rounds took four seconds of every start."""
    clock, in_bf16 = [0.0], []

    def conv2d(x, w, **keywords):
        number = torch.is_autocast_enabled("cpu")
        in_bf16.append(number)
        clock[0] += seconds if number else 0.01
        return x * w.sum()

    monkeypatch.setattr(device_module.F, "conv2d", conv2d)
    monkeypatch.setattr(device_module.time, "perf_counter", lambda: clock[0] + 1e-6 * len(in_bf16))
    check_bf16_on_cpu.cache_clear()
    try:
        check = check_bf16_on_cpu()
    finally:
        check_bf16_on_cpu.cache_clear()
    assert sum(in_bf16) == 2 * (1 + rounds)
    assert check.passed == (seconds == 0)


def test_fp32_on_an_nvidia_gpu_is_not_rounded_to_tf32():
    def settings():
        return torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision

    before = settings()
    cuda = torch.device("cuda")
    for context in (autocast(cuda, "fp32"), full_fp32(cuda, "fp32")):
        with context:
            assert settings() == ("ieee", "ieee")
        assert settings() == before
    for context in (full_fp32(cuda, "bf16"), full_fp32(CPU, "fp32")):
        with context:
            assert settings() == before


def test_autocast_sets_the_dtype_of_convolutions():
    conv, x = torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    with autocast(CPU, "bf16"):
        assert conv(x).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert conv(x).dtype == torch.float32


def test_missing_device_is_a_usage_error():
    assert choose_device("cpu") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no cuda device that torch can use; choose auto or cpu"):
            choose_device("cuda")


def test_seeds_depend_on_every_part_and_repeat():
    seeds = [derive_seed(s, p, *i) for s in (0, 1) for p in ("order", "augment") for i in ((), (0,), (1,), (0, 1))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # frozen: a change would silently change what every recorded seed means
    assert derive_seed(0, "order", 3) == 2723741169552378311
    first, second = (torch.rand(4, generator=derive_generator(0, "order", 3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("kind", "which", "missing"),
    [("cpu", "cpp_compiler", "a C++ compiler"), ("cuda", "c_compiler", "a C compiler")],  # Triton takes the latter
)
@pytest.mark.parametrize(("compiler", "headers"), [("", True), ("/usr/bin/any", False)])
def test_a_run_that_cannot_compile_trains_without_and_says_so(monkeypatch, kind, which, missing, compiler, headers):
    for name in ("cpp_compiler", "c_compiler"):
        monkeypatch.setattr(device_module, name, lambda found=compiler if name == which else "": found)
    monkeypatch.setattr(device_module, "has_python_headers", lambda: headers)
    device = torch.device(kind)
    compiles, line = decide_compile(True, device)
    assert not compiles
    assert ("Python.h" if compiler else missing) in line
    assert decide_compile(False, device) == (False, "")
    monkeypatch.setattr(device_module, which, lambda: "/usr/bin/any")
    monkeypatch.setattr(device_module, "has_python_headers", lambda: True)
    assert decide_compile(True, device) == (True, "")


def test_the_compiler_is_the_one_the_environment_names(monkeypatch, tmp_path):
    compiler = tmp_path / "my-c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert cpp_compiler() == str(compiler)
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert cpp_compiler() == ""
    monkeypatch.setenv("CC", str(compiler))
    assert c_compiler() == str(compiler)
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    assert c_compiler() == ""
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert c_compiler() == ""
    compiler.rename(tmp_path / "clang")
    assert c_compiler() == str(tmp_path / "clang")


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_that_only_emulates_bf16_trains_in_fp32(monkeypatch, native, expected):
    """As NVIDIA's cards before Ampere do, which torch calls supported all the same."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert choose_precision("auto", torch.device("cuda")) == (expected, "")
