"""Two processes train what one would: equal figures, one run folder, one message, and no rank left behind."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import make_images
from tests.training import two_ranks
from tests.training.two_ranks import CASES, tiny_config, train_case

import cifarlab
from cifarlab.cli import main
from cifarlab.commands.train import resume
from cifarlab.config_yaml import load_config
from cifarlab.errors import UsageError
from cifarlab.run import Run
from cifarlab.training.distributed import ALONE, World

ROOT = Path(cifarlab.__file__).parents[2]
PATIENCE = 200  # seconds; a start takes many of them where the machine is busy
MODEL = ["--model.convnet.stages", "1", "8", "1", "8", "--model.convnet.hidden", "8", "--model.convnet.dropout", "0"]
LENGTH = ["--train.epochs", "12", "--train.batch-size", "6", "--optimizer.lr", "0.01", "--train.precision", "fp32"]
FOLDER_RUN = ["train", "convnet", *MODEL, *LENGTH, "--data.image-size", "16", "--data.folder"]

# one worker for the whole file, for its tests share what two ranks did
pytestmark = [pytest.mark.timeout(3 * PATIENCE), pytest.mark.xdist_group("ranks")]


ON_ONE_MACHINE = ("--standalone", "--nproc-per-node", "2")


@contextlib.contextmanager
def torchrun(*arguments, runs, ranks=ON_ONE_MACHINE, **keywords):
    """Start two ranks, or those that are told; they are gone when the context ends."""
    environment = {**os.environ, "CIFARLAB_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *ranks,
        *map(str, arguments),
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks
            process.communicate(timeout=PATIENCE)


def wait_for(*paths):
    deadline = time.monotonic() + PATIENCE
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"{paths} did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def photos(here):
    images = make_images(150, seed=3)
    for index, (image, label) in enumerate(zip(images.images_NCHW, images.labels_N, strict=True)):
        path = here / "photos" / images.class_names[label] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return here / "photos"


@pytest.fixture(scope="module")
def stopped(here, photos):
    """A run of the command line on two ranks, ended by a SIGTERM to torchrun; and what was printed."""
    with torchrun("-m", "cifarlab", *FOLDER_RUN, photos, "--name", "stopped", runs=here) as process:
        wait_for(here / "stopped" / "metrics.jsonl")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    shutil.copytree(here / "stopped", here / "resumed_by_two")
    shutil.copytree(here / "stopped", here / "resumed_by_one")
    return Run.open(here / "stopped"), output, errors


@pytest.fixture(scope="module")
def two(here, stopped):
    """What each of two ranks saw, and where their runs are."""
    runs = here / "two"
    program = two_ranks.__file__
    with torchrun(program, "together", here, here / "resumed_by_two", runs=runs) as process:
        _, errors = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, errors
    return [json.loads((here / f"rank{rank}.json").read_text()) for rank in range(2)], runs


def relative_difference(one, other):
    return max((abs(a - b) / max(abs(a), 1e-3) for a, b in zip(one, other, strict=True)), default=0.0)


def weights(path):
    return Run.open(path).load_model()[0]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_do_what_one_process_does(case, two, tmp_path):
    (main_rank, _), runs = two
    losses = train_case(case)
    alone, shared = Run.open(case), Run.open(runs / case)
    close = 2e-5  # sums only change their order

    assert len(losses) == (16 if case != "decisions" else alone.read_json("result.json")["steps"])
    assert relative_difference(losses, main_rank[case]) < close
    for one, other in zip(alone.metrics(), shared.metrics(), strict=True):
        assert one.keys() == other.keys()
        assert relative_difference([one["train/loss"]], [other["train/loss"]]) < close
        assert relative_difference([one["val/loss"]], [other["val/loss"]]) < 10 * close
        assert all(one[name] == other[name] for name in ("epoch", "step", "lr", "train/accuracy", "val/accuracy"))

    expected, got = weights(alone.path), weights(shared.path)
    assert list(expected) == list(got)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=2e-5)


def test_the_whitening_bias_moved_and_was_frozen_in_the_middle(two):
    _, runs = two
    steps = {run: Run.open(runs / run).read_json("result.json")["steps"] for run in ("muon", "muon_ema")}
    assert set(steps.values()) == {16}
    assert weights(runs / "muon_ema")["network.whiten.bias"].abs().sum() > 0
    plan = tiny_config("speednet").train
    assert 0 < plan.freeze_whitening < plan.epochs


@pytest.mark.slow
def test_two_machines_do_what_one_does(photos, tmp_path):
    """Two torchruns that meet by an address, each with a rank and a runs folder of its own."""
    run = [*FOLDER_RUN, str(photos), "--name", "shared", "--train.epochs", "3"]
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    ranks = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}")
    first, second = tmp_path / "first", tmp_path / "second"
    with (
        torchrun("-m", "cifarlab", *run, runs=first, ranks=ranks) as one,
        torchrun("-m", "cifarlab", *run, runs=second, ranks=ranks) as other,
    ):
        said = [process.communicate(timeout=PATIENCE) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    (written,) = (folder / "shared" for folder in (first, second) if folder.exists())  # rank 0 lies on one of them
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFARLAB_RUNS", str(tmp_path / "alone"))
        assert main(run) == 0
    shared, alone = Run.open(written), Run.open(tmp_path / "alone" / "shared")
    assert shared.read_json("environment.json")["world_size"] == 2
    for ours, theirs in zip(shared.metrics(), alone.metrics(), strict=True):
        for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


def test_decisions_are_those_of_one_process(two):
    _, runs = two
    train_case("decisions")
    results = [Run.open(path).read_json("result.json") for path in ("decisions", runs / "decisions")]
    for figure in ("epochs", "steps", "stopped_early", "kept_epoch", "val/accuracy"):
        assert results[0][figure] == results[1][figure]


def test_a_run_of_two_ranks_has_the_files_of_one_and_the_same_configuration(two):
    _, runs = two
    train_case("muon")
    alone, shared = Run.open("muon").path, runs / "muon"
    files = [sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()) for run in (alone, shared)]
    assert files[0] == files[1]
    assert load_config(shared / "config.yaml") == load_config(alone / "config.yaml")
    for name in ("environment.json", "result.json"):
        one, other = Run.open(alone).read_json(name), Run.open(shared).read_json(name)
        assert list(one) == list(other)
        assert (one["world_size"], other["world_size"]) == (1, 2)
    assert len(Run.open(shared).load_predictions("val").labels_N) == 13


def test_only_one_folder_is_made_for_a_run_and_none_for_a_mistake(two):
    _, runs = two
    assert sorted(path.name for path in runs.iterdir()) == sorted([*CASES, "nan", "stopped", "seeds"])


def test_batch_norm_is_that_of_the_whole_batch(two):
    for seen in two[0]:
        for what, difference in seen["communicate"]["batch norm"].items():
            assert difference < 1e-10, what


def test_ranks_understand_each_other(two):
    for rank, seen in enumerate(two[0]):
        said = seen["communicate"]
        assert said["agree"] == [0, 1, 7]
        assert said["text"] == ["", "Zürich/läuft", "x" * 5000]
        assert said["figures"] == [1 / 3, 2.0]
        assert said["turn"] == [["first"], ["second"]][rank]
        assert said["one image"] < 1e-5


def test_dropout_is_drawn_differently_on_every_rank(two):
    first, second = (seen["seeds"] for seen in two[0])
    assert len(first) == len(second) >= 3
    assert not set(first) & set(second)


def test_a_loss_that_is_nan_on_one_rank_stops_both_with_one_message(two):
    first, second = (seen["nan"] for seen in two[0])
    assert first == second
    assert first[0] == "NonFiniteLossError"
    assert "at step 4" in first[1]
    assert Run.open(two[1] / "nan").load_checkpoint()[1]["progress"]["step"] == 4


def test_a_batch_that_cannot_be_shared_is_refused(two):
    for seen in two[0]:
        kind, message = seen["uneven"]
        assert kind == "UsageError"
        assert "25 images cannot be divided evenly among 2 ranks" in message
        assert "24 or 26" in message


def test_what_fails_on_one_rank_is_told_to_the_other(two):
    first, second = two[0]
    assert first["no folder"][0] == "RunError"
    assert second["no folder"] == ["PeerError", "rank 0 failed; its own message says why"]
    assert second["other images"][0] == "DataError"
    assert "differ from those of rank 0" in second["other images"][1]
    assert first["other images"][0] == "PeerError"


def test_one_rank_asked_to_stop_stops_both_at_the_same_step(two):
    first, second = (seen["stopped"] for seen in two[0])
    assert first == second
    assert first[0] == "StoppedError"
    assert "stopped at step 5 of 16" in first[1]
    assert Run.open(two[1] / "stopped").load_checkpoint()[1]["progress"]["step"] == 5


def test_sigterm_to_torchrun_saves_once_and_says_so_once(stopped):
    run, output, errors = stopped
    # torch 2.10 lets gloo speak there too
    assert [line for line in output.splitlines() if not line.startswith("[Gloo]")] == []
    assert errors.count("continue with: cifarlab train --resume") == 1
    assert not run.finished
    step = run.load_checkpoint()[1]["progress"]["step"]
    assert f"stopped at step {step} of " in errors


@pytest.mark.usefixtures("without_curves")
def test_a_run_stopped_on_two_ranks_is_continued_by_two_or_by_one(stopped, two, photos, here, capsys):
    by_one = resume(Run.open(here / "resumed_by_one"))
    assert main([*FOLDER_RUN, str(photos), "--name", "whole"]) == 0
    capsys.readouterr()
    whole = Run.open("whole")
    for run in (by_one, Run.open(here / "resumed_by_two")):
        for one, other in zip(whole.metrics(), run.metrics(), strict=True):
            assert one["train/loss"] == pytest.approx(other["train/loss"], rel=1e-3)
        for name, value in weights(whole.path).items():
            torch.testing.assert_close(weights(run.path)[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("end", ["killed", "raised"])
def test_a_rank_that_ends_is_named_and_the_other_ends_too(end, tmp_path):
    program = two_ranks.__file__
    job = "long" if end == "killed" else "raise"
    with torchrun(program, job, tmp_path, runs=tmp_path / "runs") as process:
        wait_for(tmp_path / "pid0", tmp_path / "pid1")
        pids = [int((tmp_path / f"pid{rank}").read_text()) for rank in range(2)]
        if end == "killed":
            os.kill(pids[1], signal.SIGKILL)
        _, errors = process.communicate(timeout=90)  # seconds are enough where the machine is not overloaded
    assert process.returncode != 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    root_cause = errors.partition("Root Cause")[2]
    assert "rank      : 1 (local_rank: 1)" in root_cause
    if end == "killed":
        assert "SIGKILL" in root_cause
        assert "error: rank 0: the connection to another rank broke" in errors, errors
    else:
        assert "error: rank 1: ValueError: the dog ate it" in errors


@pytest.mark.parametrize(
    ("world", "device", "message"),
    [
        (World(size=4, local_size=4), "cuda", "4 ranks were started on a machine that shows 2 GPUs"),
        (World(size=2, local_size=2), "mps", "not on mps; take --train.device cpu"),
    ],
)
def test_devices_that_cannot_be_shared_are_refused(world, device, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=message):
        world.device(torch.device(device))


@pytest.mark.parametrize(("batch_size", "advice"), [(250, "248 or 252"), (3, "to 4 ")])
def test_advice_on_an_uneven_batch_can_be_followed(batch_size, advice):
    with pytest.raises(UsageError, match=advice):
        World(size=4).rows(batch_size)
    assert World(rank=3, size=4).rows(252) == slice(189, 252)


def test_alone_nothing_is_communicated():
    assert ALONE.agree(3) == 3
    assert ALONE.from_main(lambda: "text") == "text"
    assert ALONE.rows(7) == slice(0, 7)
    assert ALONE.weight(torch.tensor(2.0)) == 1.0
    with ALONE.in_turn():
        pass
