"""The command line as a user meets it: exit codes, one-line errors, the whole path on a small image folder."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cifarlab import cli
from cifarlab.cli import COMMANDS, main
from cifarlab.models import MODELS
from cifarlab.recipes import RECIPES
from cifarlab.run import Run
from tests.conftest import make_images

SMALL = ["--model.convnet.stages", "1", "8", "1", "8", "--model.convnet.hidden", "8"]
FAST = ["--data.image-size", "16", "--train.precision", "fp32"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    images = make_images(150, seed=3)
    for index, (image, label) in enumerate(zip(images.images_NCHW, images.labels_N, strict=True)):
        path = root / images.class_names[label] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


def train_args(folder, *more, epochs=2, batch_size=16):
    length = ["--train.epochs", str(epochs), "--train.batch-size", str(batch_size)]
    return ["train", "convnet", *SMALL, *FAST, *length, "--data.folder", str(folder), *more]


def cifarlab(*args, **keywords):
    command = [sys.executable, "-m", "cifarlab", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: cifarlab {command}" in capsys.readouterr().out


def test_help_of_train_names_models_and_recipes(capsys):
    main(["train", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in [*MODELS, *RECIPES])
    assert all(f"--model.{name}." in text for name in MODELS)


def test_overview_and_version(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("cifarlab ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["trian"], 2, "unknown command 'trian'; did you mean train?"),
        (["train", "resnet8"], 2, "unknown recipe 'resnet8'; did you mean resnet18?"),
        (["train", "--train.epochs", "inf"], 2, "train.epochs must be positive and finite, not inf"),
        (["train", "--optimizer.lr", "-3"], 2, "optimizer.lr must be positive, not -3.0"),
        (["train", "--config", "missing.yaml"], 2, "cannot read the configuration missing.yaml"),
        (["train", "fast90", "--config", "x.yaml"], 2, "not from both"),
        (["train", "--resume", "x", "--train.epochs", "3"], 2, "takes no settings; remove --train.epochs"),
        (["train", "convnet", "--resume", "x"], 2, "takes no settings; remove convnet"),
        (["train", "--train.epochs", "2", "convnet"], 2, "name the recipe first: cifarlab train convnet"),
        (["train", "--resume", ""], 2, "--resume names nothing; name a run folder behind it"),
        (["train", "--resume="], 2, "--resume names nothing"),
        (["train", "--config", "", "--data.folder", "FOLDER"], 2, "--config names nothing; name a YAML file behind it"),
        (["train", "--resume", "nothing"], 1, "nothing is not a run folder"),
        (["train", "--data.folder", "no/such/folder"], 3, "no/such/folder"),
        (["train", "--data.csv", "no.csv"], 3, "no.csv"),
        (["train", "--model.init", "nothing", "--data.folder", "FOLDER"], 1, "nothing is not a run folder"),
        (["train", "--train.device", "cuda", "--data.folder", "FOLDER"], 2, "no cuda device"),
        (["evaluate", "nothing"], 1, "nothing is not a run folder"),
        (["evaluate"], 2, "name what to judge: a run, as in cifarlab evaluate runs/fast90, or --answers FILE"),
        (["evaluate", "a", "--answers", "f.npz", "--out", "o"], 2, "not both"),
        (["evaluate", "--answers", "f.npz"], 2, "name a folder for the figures and the page with --out FOLDER"),
        (["evaluate", "--answers", "f.npz", "--out", "o", "--split", "test"], 2, "go with a run, not with --answers"),
        (["evaluate", "a", "--labels", "l.npy"], 2, "--labels goes with --answers"),
        (["evaluate", "--answers", "f.npz", "--out", "o", "--val-labels", "l.npy"], 2, "goes with --val-answers"),
        (["evaluate", "a", "--require", "90"], 2, "--require takes an accuracy as a fraction, such as 0.9, not 90"),
        (["evaluate", "a", "--wanted-accuracy", "2"], 2, "wanted-accuracy must lie between 0 and 1"),
        (["report", "nothing"], 1, "nothing is not a run folder"),
        (["predict", "nothing", "x.png"], 1, "nothing is not a run folder"),
        (["explore", "--data.folder", "no/such/folder"], 3, "no/such/folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_its_exit_code(words, code, message, capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "cuda" in words:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has what the test says is missing")
    words = [str(folder) if word == "FOLDER" else word for word in words]
    assert main(words) == code
    captured = capsys.readouterr()
    error = captured.err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert message in error[-1]
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("words", [["train", "--optimzer.lr", "1"], ["train", "--train.epochs", "many"], ["evaluate"]])
def test_a_wrong_flag_is_a_usage_error(words, capsys):
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    assert main(["train", "fast9", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_the_whole_path_on_an_image_folder(folder, capsys):
    assert main(train_args(folder, "--name", "mine", "--json")) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert Path(result["run"]).name == "mine"
    assert captured.err.count("epoch ") == 2  # no terminal: one line an epoch
    assert "\x1b" not in captured.err
    assert all((Run.open("mine").path / "plots" / f"curves.{kind}").is_file() for kind in ("png", "svg"))

    assert main(["report", "mine"]) == 1
    assert "cifarlab evaluate" in capsys.readouterr().err
    assert main(["evaluate", "mine", "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert "next: cifarlab report" in printed
    assert main(["evaluate", "mine", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["accuracy"]["value"] == pytest.approx(result["val/accuracy"])
    assert main(["report", "mine"]) == 0
    written = dict(line.split(": ", 1) for line in capsys.readouterr().out.strip().splitlines())
    assert all(Path(written[what]).is_file() for what in ("report", "figures", "model card"))
    assert len(Run.open("mine").test_reads()) == 1

    assert main(["predict", "mine", str(folder / "red"), "--json"]) == 0
    predictions = json.loads(capsys.readouterr().out)
    assert len(predictions) == 50
    for prediction in predictions:
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert prediction["label"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


@pytest.mark.usefixtures("without_curves")
def test_a_run_repeats_from_its_own_config_to_the_same_bytes(folder, capsys):
    assert main(train_args(folder, "--name", "a")) == 0
    assert main(["train", "--config", str(Run.open("a").path / "config.yaml"), "--name", "b"]) == 0
    capsys.readouterr()
    first, second = (Run.open(name).path / "model.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.usefixtures("without_curves")
def test_a_run_trained_on_a_relative_folder_can_be_judged_from_anywhere(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert main(train_args(folder.name, "--name", "a")) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "a"]) == 0
    capsys.readouterr()


@pytest.mark.usefixtures("without_curves")
def test_an_unfinished_run_is_refused_with_the_way_on(folder, capsys):
    assert main(train_args(folder, "--name", "a")) == 0
    (Run.open("a").path / "result.json").unlink()
    for command in (["evaluate", "a"], ["report", "a"]):
        assert main(command) == 1
        assert "continue it with: cifarlab train --resume" in capsys.readouterr().err


@pytest.mark.usefixtures("without_curves")
def test_one_unreadable_file_does_not_stop_prediction(folder, tmp_path, capsys):
    assert main(train_args(folder, "--name", "a")) == 0
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "bad.png").write_bytes(b"not an image")
    (photos / "good.png").write_bytes((folder / "red" / "000.png").read_bytes())
    capsys.readouterr()
    assert main(["predict", "a", str(photos)]) == 1
    captured = capsys.readouterr()
    assert "good.png" in captured.out
    assert "bad.png" in captured.err
    assert "1 of 2 files could not be read" in captured.err


def stopped_by(number, process, run):
    """Send a process a signal once it has closed another epoch; check how it ends; return what it says."""
    metrics = run / "metrics.jsonl"
    before, deadline = metrics.read_bytes() if metrics.exists() else b"", time.monotonic() + 60
    while (not metrics.exists() or metrics.read_bytes() == before) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "continue with: cifarlab train --resume" in errors
    assert "Traceback" not in errors


@pytest.mark.usefixtures("without_curves")
def test_a_signal_saves_the_run_and_resume_ends_in_the_same_bytes(folder, capsys):
    args = train_args(folder, epochs=12, batch_size=2)
    run = Path(os.environ["CIFARLAB_RUNS"]) / "stopped"
    stopped_by(signal.SIGTERM, cifarlab(*args, "--name", "stopped"), run)
    stopped_by(signal.SIGINT, cifarlab("train", "--resume", run), run)
    assert main(["train", "--resume", str(run)]) == 0
    assert main([*args, "--name", "whole"]) == 0
    capsys.readouterr()
    digests = [
        hashlib.sha256((run.parent / name / "model.safetensors").read_bytes()).hexdigest()
        for name in ("stopped", "whole")
    ]
    assert digests[0] == digests[1]


def test_a_download_before_training_ends_at_once(folder, monkeypatch, capsys):
    """There is no step yet after which to stop, and nothing to save."""
    monkeypatch.setattr(cli, "_fetch_first", lambda data: signal.raise_signal(signal.SIGINT))
    # a shell has what it starts in the background ignore SIGINT
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(train_args(folder)) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "error: interrupted\n"
    assert not Path(os.environ["CIFARLAB_RUNS"]).exists()


def test_no_disk_is_one_line(folder):
    def small_files_only():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = cifarlab(*train_args(folder), preexec_fn=small_files_only)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.strip().splitlines()[-1].startswith("error: cannot write")
    assert "Traceback" not in errors


@pytest.mark.usefixtures("without_curves")
def test_a_required_accuracy_that_is_not_shown_is_exit_code_4_once_all_is_written(folder, capsys):
    assert main(train_args(folder, "--name", "a")) == 0
    capsys.readouterr()
    assert main(["evaluate", "a", "--sections", "scores", "--require", "0.999"]) == 4
    captured = capsys.readouterr()
    assert "is not shown to reach the required 99.90 %" in captured.err
    assert "Wilson interval" in captured.err
    assert "95 % interval" in captured.out
    page = Path(captured.out.partition("page: ")[2].splitlines()[0])
    assert page.is_file()
    assert page.parent.name == "evaluation"
    assert main(["evaluate", "a", "--sections", "scores", "--require", "0.01"]) == 0


@pytest.mark.usefixtures("without_curves")
def test_sections_are_named_on_the_command_line_and_told_on_the_terminal(folder, capsys):
    assert main(train_args(folder, "--name", "a")) == 0
    capsys.readouterr()
    assert main(["evaluate", "a", "--sections", "ranking", "scores", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert "scores" in printed
    assert "ranking" in printed
    assert "calibration " not in printed.partition("section")[2]
    assert "next: cifarlab evaluate" in printed
    entry = json.loads((Run.open("a").path / "evaluation.json").read_text())["splits"]["val"]
    assert list(entry["sections"]) == ["scores", "ranking"]
    assert main(["evaluate", "a", "--sections", "nothing"]) == 2
    assert "no section is called 'nothing'" in capsys.readouterr().err


def test_answers_from_a_file_are_judged_without_a_run(tmp_path, capsys):
    import numpy as np

    probabilities = np.full((30, 3), 0.1)
    probabilities[np.arange(30), np.arange(30) % 3] = 0.8
    np.savez(tmp_path / "theirs.npz", probabilities=probabilities, labels=np.arange(30) % 3)
    words = ["evaluate", "--answers", str(tmp_path / "theirs.npz"), "--out", str(tmp_path / "out")]
    assert main([*words, "--sections", "scores"]) == 0
    assert "given accuracy 100.00 %" in capsys.readouterr().out
    assert main([*words, "--sections", "why"]) == 3, "it was asked for by name and cannot be had"
    assert "section why was skipped" in capsys.readouterr().err
