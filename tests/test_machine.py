"""Reading the machine: from files laid out as Linux lays them out, and from what macOS prints."""

import os
import shutil

import pytest

from cifarlab import environment, machine
from cifarlab.machine import (
    Processor,
    all_instruction_sets,
    count_cores,
    cpu_name,
    cpu_quota,
    free_disk,
    instruction_sets,
    read_machine,
    read_memory,
)

XEON = """processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16 i8mm\nCPU part\t: 0xd40\n"
NO_LIMIT = "9223372036854771712"  # what version 1 of cgroups writes


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch):
    monkeypatch.setattr(machine, "_sysctl", dict)


def write(root, files):
    """Write files below root, which stands for /."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_processor_is_named_with_the_instruction_sets_that_matter(tmp_path):
    root = write(tmp_path, {"/proc/cpuinfo": XEON})
    assert cpu_name(root) == "Intel(R) Xeon(R) Processor"
    assert instruction_sets(root) == dict.fromkeys(("avx2", "avx512f", "avx512_bf16", "amx_bf16"), True)


def test_avx512_is_not_taken_for_avx512_bf16(tmp_path):
    root = write(tmp_path, {"/proc/cpuinfo": "flags\t: avx512f avx512_vnni\n"})
    assert [name for name, there in instruction_sets(root).items() if there] == ["avx512f"]


def test_processors_are_told_apart_by_every_instruction_set_they_have(tmp_path):
    told = []
    for number, flags in enumerate(("avx2 avx512f", "avx512f avx2", "avx2 avx512f avx512_vbmi", "")):
        root = write(tmp_path / str(number), {"/proc/cpuinfo": f"model name\t: Xeon\nflags\t: {flags}\n"})
        told.append(all_instruction_sets(root))
    assert told == ["avx2 avx512f", "avx2 avx512f", "avx2 avx512_vbmi avx512f", "Xeon"]


def test_arm_processors_are_asked_for_their_own_sets(tmp_path):
    root = write(tmp_path, {"/proc/cpuinfo": ARM})
    assert instruction_sets(root) == {"asimd": True, "bf16": True, "sve": False}


def test_without_cpuinfo_nothing_is_claimed(tmp_path):
    assert instruction_sets(tmp_path) == {}
    assert cpu_name(tmp_path)  # at least the architecture


@pytest.mark.parametrize(
    ("printed", "sets", "name"),
    [
        ("machdep.cpu.brand_string: Apple M4\nhw.optional.arm.FEAT_BF16: 1\n", {"bf16": True}, "Apple M4"),
        (
            "machdep.cpu.brand_string: Intel(R) Core(TM) i7\nmachdep.cpu.leaf7_features: SMEP AVX2 BMI2\n",
            {"avx2": True, "avx512f": False},
            "Intel(R) Core(TM) i7",
        ),
    ],
)
def test_macos_tells_by_sysctl(tmp_path, monkeypatch, printed, sets, name):
    monkeypatch.undo()
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    done = machine.subprocess.CompletedProcess([], 0, stdout=f"{printed}hw.memsize: 17179869184\nhw.physicalcpu: 4\n")
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: done)
    machine._sysctl.cache_clear()
    try:
        assert instruction_sets(tmp_path) == sets
        assert cpu_name(tmp_path) == name
        assert read_memory(tmp_path).total == 2**34
        assert count_cores(range(8), tmp_path) == 4
    finally:
        machine._sysctl.cache_clear()


def test_two_threads_of_a_core_are_one_core(tmp_path):
    pairs = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    siblings = {f"/sys/devices/system/cpu/cpu{c}/topology/thread_siblings_list": text for c, text in pairs.items()}
    root = write(tmp_path, siblings)
    assert count_cores({0, 1, 2, 3}, root) == 2
    assert count_cores({0, 2}, root) == 1  # affinity to one core
    assert count_cores({4, 5, 6}, root) == 3  # unknown: each counts


CPU_LIMITS = {
    "version 2": ({"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
    "version 2, none": ({"/proc/self/cgroup": "0::/a\n", "/sys/fs/cgroup/a/cpu.max": "max 100000\n"}, None),
    "version 2, tighter outside": (
        {
            "/proc/self/cgroup": "0::/a/b\n",
            "/sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
            "/sys/fs/cgroup/a/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    "version 2 in its own namespace": (
        {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "300000 100000\n"},
        3.0,
    ),
    "version 2 beside its namespace": (
        {"/proc/self/cgroup": "0::/../other\n", "/sys/fs/cgroup/cpu.max": "300000 100000\n"},
        3.0,
    ),
    "version 1": (
        {
            "/proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/c\n0::/\n",
            "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us": "50000\n",
            "/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": "100000\n",
        },
        0.5,
    ),
    "version 1, none": (
        {
            "/proc/self/cgroup": "1:cpu:/\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "version 1 where only the container's own group is mounted": (
        {
            "/proc/self/cgroup": "3:cpuacct,cpu:/docker/0123\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        2.0,
    ),
    "no cgroups": ({}, None),
}


@pytest.mark.parametrize("case", CPU_LIMITS)
def test_cpu_limit_of_a_container(tmp_path, case):
    files, cores = CPU_LIMITS[case]
    assert cpu_quota(write(tmp_path, files)) == cores


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\nHugePages_Total: 0\n"


def test_memory_without_a_limit(tmp_path):
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/self/cgroup": "4:memory:/m\n",
        "/sys/fs/cgroup/memory/m/memory.limit_in_bytes": NO_LIMIT,
        "/sys/fs/cgroup/memory/m/memory.usage_in_bytes": "5",
    }
    memory = read_memory(write(tmp_path, files))
    assert (memory.total, memory.available, memory.limit) == (16_000_000 * 1024, 12_000_000 * 1024, None)


def test_a_container_has_its_limit_less_what_it_uses_and_cannot_give_up(tmp_path):
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/self/cgroup": "0::/a\n",
        "/sys/fs/cgroup/a/memory.max": "4000000000\n",
        "/sys/fs/cgroup/a/memory.current": "3000000000\n",
        "/sys/fs/cgroup/a/memory.stat": "anon 2000000000\ninactive_file 700000000\nactive_file 300000000\n",
    }
    memory = read_memory(write(tmp_path, files))
    assert memory.limit == 4_000_000_000
    assert memory.available == 1_700_000_000


def test_the_tightest_group_counts_in_version_1_too(tmp_path):
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/self/cgroup": "4:memory:/m/n\n",
        "/sys/fs/cgroup/memory/m/n/memory.limit_in_bytes": "8000000000",
        "/sys/fs/cgroup/memory/m/n/memory.usage_in_bytes": "1000000000",
        "/sys/fs/cgroup/memory/m/memory.limit_in_bytes": "6000000000",
        "/sys/fs/cgroup/memory/m/memory.usage_in_bytes": "5500000000",
        "/sys/fs/cgroup/memory/m/memory.stat": "inactive_file 1\ntotal_inactive_file 100000000",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
    }
    memory = read_memory(write(tmp_path, files))
    assert (memory.limit, memory.available) == (6_000_000_000, 600_000_000)


def test_nothing_known_of_memory_is_none(tmp_path):
    memory = read_memory(tmp_path)
    assert (memory.total, memory.available, memory.limit) == (None, None, None)


@pytest.mark.parametrize(
    ("threads", "cores", "quota", "usable_cores", "usable_threads"),
    [(8, 4, None, 4, 8), (8, 4, 2.0, 2, 2), (8, 4, 6.0, 4, 6), (2, 2, 1.5, 1, 1), (2, 2, 0.5, 1, 1)],
)
def test_whole_cores_within_affinity_and_limit_can_work_at_once(threads, cores, quota, usable_cores, usable_threads):
    processor = Processor("", 64, threads, cores, quota, {})
    assert processor.usable_cores == usable_cores
    assert processor.usable_threads == usable_threads


def test_a_folder_yet_to_be_made_has_the_disk_of_the_one_around_it(tmp_path):
    free = free_disk(tmp_path / "not" / "there")
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1e9)


def test_this_machine_reads_as_what_other_means_say_of_it(monkeypatch):
    monkeypatch.undo()
    here = read_machine()
    assert 1 <= here.processor.usable_cores <= here.processor.usable_threads <= here.processor.hardware_threads
    if hasattr(os, "sched_getaffinity"):
        assert here.processor.allowed_threads == len(os.sched_getaffinity(0))
    assert here.software.torch == environment.describe_environment()["torch"]
    assert here.software.threads == environment.describe_environment()["threads"]
    assert here.processor.name == environment.describe_environment()["cpu"]
    if here.memory.total is not None:
        assert here.memory.total == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert here.memory.available <= here.memory.total
