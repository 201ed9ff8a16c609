"""Known hazards: each is told where it applies and only there, with what to do and the issue it comes from."""

import dataclasses

import pytest

from cifarlab.hazards import HAZARDS, find_in_software, find_in_threads
from cifarlab.machine import Machine, Memory, Processor, Software

GOOD = Software(
    python="3.11.7",
    torch="2.13.0+cpu",
    onednn="3.12.0",
    torchvision="",
    compiler="/usr/bin/g++",
    python_headers=True,
    threads=2,
    thread_variables={},
    nvidia_driver=False,
    freezing=False,
)


def machine(threads=2, variables=None, allowed_threads=2, cores=2, quota=None):
    software = dataclasses.replace(GOOD, threads=threads, thread_variables=variables or {})
    processor = Processor("a processor", 64, allowed_threads, cores, quota, {})
    return Machine("Linux", processor, Memory(None, None, None), (), software)


def test_good_software_has_no_findings():
    assert list(find_in_software(GOOD)) == []


CASES = [
    ({"torch": "2.9.1"}, "torch 2.9.1 is older than 2.10", "pytorch/pytorch#163347"),
    ({"torch": "1.13.1+cu117"}, "torch 1.13.1+cu117 is older", "pytorch/pytorch#163347"),
    ({"onednn": "3.12.3"}, "oneDNN 3.12.3 multiplies fp16", "pytorch/pytorch#193951"),
    ({"torch": "2.13.0.dev20260512+cu130"}, "preview", "pytorch/pytorch#183815"),
    ({"torchvision": "0.28.0"}, "torchvision 0.28.0 is built for CUDA", "pytorch/vision#9085"),
    ({"freezing": True}, "TORCHINDUCTOR_FREEZING", "pytorch/pytorch#190757"),
    ({"compiler": "", "python_headers": False}, "no C++ compiler", ""),
    ({"python_headers": False}, "Python.h is missing", ""),
]


@pytest.mark.parametrize(("change", "what", "reference"), CASES, ids=lambda value: str(value)[:40])
def test_a_hazard_is_told_with_its_versions_and_a_remedy(change, what, reference):
    (finding,) = find_in_software(dataclasses.replace(GOOD, **change))
    assert what in finding.what
    assert finding.reference == reference
    assert finding.remedy
    assert finding.text.splitlines()[-1] == f"do: {finding.remedy}"
    assert "{" not in finding.text


def test_every_hazard_has_a_case():
    def applying(change):
        return [hazard for hazard in HAZARDS if hazard.applies(dataclasses.replace(GOOD, **change))]

    assert {id(hazard) for change, _, _ in CASES for hazard in applying(change)} == {id(hazard) for hazard in HAZARDS}


@pytest.mark.parametrize(
    "change",
    [
        {"torch": "2.10.0"},
        {"torch": "3.0.0"},
        {"onednn": "3.12.4"},
        {"onednn": ""},
        {"torchvision": "0.28.0+cpu"},
        {"torch": "2.13.0", "torchvision": "0.28.0"},
    ],
    ids=str,
)
def test_what_is_near_a_hazard_is_none(change):
    assert list(find_in_software(dataclasses.replace(GOOD, **change))) == []


@pytest.mark.parametrize(
    ("here", "what", "remedy"),
    [
        (
            machine(threads=1, variables={"OMP_NUM_THREADS": "1"}),
            "torch computes with 1 of 2 cores, because of OMP_NUM_THREADS=1",
            "set OMP_NUM_THREADS=2",
        ),
        (machine(threads=1), "torch computes with 1 of 2 cores", "set OMP_NUM_THREADS=2"),
        (
            machine(threads=32, allowed_threads=64, cores=32, quota=2.5),
            "torch computes with 32 threads, but only 2 can run at once",
            "set OMP_NUM_THREADS=2",
        ),
        (
            machine(threads=64, allowed_threads=4, cores=2),
            "torch computes with 64 threads, but only 4 can run at once",
            "set OMP_NUM_THREADS=2",
        ),
        (
            machine(variables={"OMP_NUM_THREADS": "two"}),
            "OMP_NUM_THREADS='two' is not a number of threads",
            "set OMP_NUM_THREADS=2 or unset it",
        ),
        (
            machine(variables={"MKL_NUM_THREADS": "0"}),
            "MKL_NUM_THREADS='0' is not a number of threads",
            "set MKL_NUM_THREADS=2 or unset it",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_too_many_or_too_few_threads_are_told(here, what, remedy):
    (finding,) = find_in_threads(here)
    assert (finding.level, finding.what, finding.remedy) == ("warning", what, remedy)


@pytest.mark.parametrize(
    "here",
    [
        machine(),
        machine(variables={"OMP_NUM_THREADS": "2"}),
        machine(variables={"OMP_NUM_THREADS": "2,1"}),  # OpenMP takes one number for each level
        machine(threads=4, allowed_threads=8, cores=4),  # a thread a core
        machine(threads=8, allowed_threads=8, cores=4),  # both threads of each core
    ],
)
def test_as_many_threads_as_cores_are_well(here):
    assert list(find_in_threads(here)) == []
