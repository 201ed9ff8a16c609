import json
import resource
import shlex
import signal

import pytest
import torch
from safetensors.torch import save_file

from cifarlab.config import Config
from cifarlab.errors import RunError
from cifarlab.run import Predictions, Run, durable_file, read_tensors, write_tensors, write_text


@pytest.fixture
def run(tmp_path):
    return Run.create(Config(), name="a", root=tmp_path)


def test_second_run_of_a_name_gets_a_number(tmp_path, run):
    assert [Run.create(Config(), name="a", root=tmp_path).name for _ in range(2)] == ["a-2", "a-3"]
    assert run.name == "a"
    assert run.config == Config()


def test_a_runs_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "disk that is not mounted")
    for root in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(RunError, match=f"cannot create {root}: .*; choose another folder with CIFARLAB_RUNS"):
            Run.create(Config(), name="a", root=root)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "/abs"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(RunError, match="plain folder name"):
        Run.create(Config(), name=name, root=tmp_path)


def test_open_finds_runs_by_path_and_by_name(tmp_path, run, monkeypatch):
    assert Run.open(run.path).name == "a"
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path))
    assert Run.open("a").path == run.path
    for name in ("b", "b" * 300):  # the second is too long for a file's name
        with pytest.raises(RunError, match="not a run folder"):
            Run.open(name)


def test_unfinished_run_says_how_to_go_on(run):
    assert not run.finished
    with pytest.raises(RunError, match="not finished; continue it with: cifarlab train --resume"):
        run.load_model()
    run.write_json("result.json", {})
    assert run.finished


def test_a_command_to_be_typed_quotes_the_folder(tmp_path):
    run = Run.create(Config(), name="my father's", root=tmp_path / "a run")
    for way_on, words in [
        (run.require_finished, ["cifarlab", "train", "--resume", str(run.path)]),
        (lambda: run.load_predictions("val"), ["cifarlab", "evaluate", str(run.path), "--split", "val"]),
    ]:
        with pytest.raises(RunError) as caught:
            way_on()
        assert shlex.split(str(caught.value).partition("with: ")[2]) == words


def test_tensors_come_back_and_equal_content_gives_equal_bytes(tmp_path):
    tensors = {"b": torch.randn(3, 4).t(), "a": torch.tensor(7), "c": torch.randn(2, 3, 4, 4).bfloat16()}
    metadata = {f"key{number}": [number, "text"] for number in range(20)}
    write_tensors(tmp_path / "x", tensors, metadata)
    write_tensors(tmp_path / "y", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    loaded, values = read_tensors(tmp_path / "x")
    assert values == metadata
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_cut_file_is_damaged_not_a_crash(tmp_path, share):
    path = tmp_path / "x"
    write_tensors(path, {"a": torch.randn(50)}, {})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(RunError, match="damaged"):
        read_tensors(path)


@pytest.mark.parametrize("metadata", ["[]", "null", "5", '{"format": "1"}', "[" * 100_000], ids=lambda text: text[:9])
def test_metadata_of_another_kind_is_damage_not_a_crash(tmp_path, metadata):
    save_file({"a": torch.zeros(1)}, tmp_path / "x", {"cifarlab": metadata})
    with pytest.raises(RunError, match="damaged"):
        read_tensors(tmp_path / "x")


def test_newest_readable_checkpoint_is_taken(run):
    assert run.load_checkpoint() is None
    for step in (5, 90, 100):
        run.save_checkpoint(step, {"step": torch.tensor(step)}, {"at": step})
    files = sorted((run.path / "checkpoint").iterdir())
    assert [file.name for file in files] == ["step-000000090.safetensors", "step-000000100.safetensors"]
    assert run.load_checkpoint()[1]["at"] == 100
    files[1].write_bytes(files[1].read_bytes()[:-7])
    assert run.load_checkpoint()[1]["at"] == 90
    files[0].write_bytes(b"")
    with pytest.raises(RunError, match="no checkpoint"):
        run.load_checkpoint()


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def fail_halfway():
        with durable_file(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


def test_disk_full_is_one_line_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    write_text(path, "old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the limit then is an OSError, as a full disk is
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(RunError, match="cannot write"):
            write_text(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.txt"]


def test_metrics_and_test_reads(run):
    assert run.metrics() == []
    run.write_metrics([{"epoch": 1}, {"epoch": 2}])
    run.write_metrics([{"epoch": 1}, {"epoch": 2}, {"epoch": 3}])
    assert [record["epoch"] for record in run.metrics()] == [1, 2, 3]
    assert run.test_reads() == []
    run.log_test_read("evaluate", "first")
    run.log_test_read("evaluate", "second")
    assert [read["reason"] for read in run.test_reads()] == ["first", "second"]


def test_a_reading_that_could_not_be_noted_does_not_spoil_the_others(run):
    run.log_test_read("evaluate", "first")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((run.path / "test_reads.jsonl").stat().st_size + 20, limit[1]))
    try:
        with pytest.raises(RunError, match="cannot record the reading"):
            run.log_test_read("evaluate", "second")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    run.log_test_read("evaluate", "third")
    assert [read["reason"] for read in run.test_reads()] == ["first", "third"]


def test_predictions_come_back(run):
    stored = Predictions(torch.randn(5, 3), torch.arange(5) % 3, torch.randn(5, 3))
    run.save_predictions("val", stored)
    loaded = run.load_predictions("val")
    assert torch.equal(loaded.logits_NK, stored.logits_NK)
    assert torch.equal(loaded.labels_N, stored.labels_N)
    assert torch.equal(loaded.logits_tta_NK, stored.logits_tta_NK)
    with pytest.raises(RunError, match=r"cifarlab evaluate .* --split test"):
        run.load_predictions("test")


@pytest.mark.parametrize(
    "tensors",
    [
        {"logits": torch.zeros(5, 3)},
        {"labels": torch.zeros(5)},
        {"logits": torch.zeros(5), "labels": torch.zeros(5)},
        {"logits": torch.zeros(5, 3), "labels": torch.zeros(4)},
    ],
    ids=["no labels", "no logits", "one logit", "other number"],
)
def test_predictions_that_are_none_say_how_to_make_them(run, tensors):
    write_tensors(run.path / "predictions" / "val.safetensors", tensors, {})
    with pytest.raises(RunError, match=r"damaged: .* make them with: cifarlab evaluate .* --split val"):
        run.load_predictions("val")


def test_newer_format_is_refused(run):
    run.write_json("result.json", {})
    write_tensors(run.path / "model.safetensors", {"a": torch.zeros(1)}, {"format": 99})
    with pytest.raises(RunError, match="newer cifarlab"):
        run.load_model()


def test_damaged_json_is_named(run):
    (run.path / "result.json").write_text('{"half":')
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        run.read_json("result.json")
    run.write_json("y.json", {"name": "a\udcff"})  # as os.fsdecode gives the bytes of a name that is no UTF-8
    assert run.read_json("y.json") == {"name": "a\udcff"}
    run.write_json("x.json", {"ü": 1})
    assert json.loads((run.path / "x.json").read_text()) == {"ü": 1}
