"""``cifarlab tune`` as a user meets it: what it prints, its exit codes, mistakes, signals."""

import html
import json
import re
import shlex
import signal
import sys

import pytest
from tests.experiments.pretend import CONFIG, Pretender, draw_nothing, serve_images

from cifarlab import cli, cli_tune
from cifarlab.commands import train as train_module
from cifarlab.commands.train import train
from cifarlab.config_yaml import config_to_yaml, load_config
from cifarlab.data.splits import make_splits
from cifarlab.errors import NonFiniteLossError, StoppedError
from cifarlab.experiments import search_page
from cifarlab.experiments.search_queue import SearchQueue
from cifarlab.experiments.storage import create_or_join, open_storage
from cifarlab.experiments.study import SPEC_KEY
from cifarlab.run import runs_root

pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def _fast(monkeypatch, source):
    serve_images(monkeypatch, source)
    draw_nothing(monkeypatch)


def run_cli(*words):
    return cli.main(["tune", *words])


@pytest.fixture
def no_fetch(monkeypatch):
    monkeypatch.setattr(cli_tune, "fetch_first", lambda data: None)


@pytest.fixture
def tiny(tmp_path, no_fetch):
    """Words that search around the tiny recipe."""
    path = tmp_path / "tiny.yaml"
    path.write_text(config_to_yaml(CONFIG))
    return ("--config", str(path), "--search", "optimizer.lr=log:0.001:0.1", "--set", "train.epochs=1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what to tune"),
        (("convnett",), "did you mean convnet?"),
        (("convnet", "--search", "optimizer.lrr=0.1,0.2"), "unknown field 'optimizer.lrr'; did you mean optimizer.lr?"),
        (("convnet", "--search", "model.dropout=0:1"), "model.convnet.dropout must lie in [0, 1), not 1.0"),
        (("convnet", "--space", "rate"), "did you mean rates?"),
        (("convnet", "--set", "train.epochs=0"), "train.epochs must be positive"),
        (("convnet", "--search", "train.epochs=2:8"), "add --pruner none"),
        (("--join",), "say which search to join"),
        (("convnet", "--join"), "there is no search 'tune-convnet' in the storage"),
        (("convnet", "--join", "--search", "optimizer.lr=0.1,0.2"), "remove --search"),
        (("convnet", "--trials", "0"), "at least one trial"),
        (("convnet", "--minutes", "0"), "--minutes must be positive"),
        (("convnet", "--confirm", "-1"), "--confirm takes a number of seeds, not -1"),
        (("convnet", "--confirm", "3", "--top", "0"), "--top takes how many configurations to train again"),
        (("convnet", "--search", f"model.stages=[[1,8]],{[[1, 8]] * 6}"), "no network can be built with"),
        (("convnet", "--storage", "nowhere://x"), "is no storage; give a file, or a URL"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_code_2(words, message, capsys, monkeypatch):
    later = "--storage" in words  # it is opened when the images are there
    monkeypatch.setattr(cli_tune, "fetch_first", lambda data: later or pytest.fail("a download"))
    assert run_cli(*words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.strip().count("\n") == 0
    assert not list(runs_root().glob("*-t*"))


def test_without_optuna_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run_cli("convnet") == 3
    assert "pip install 'cifarlab[tune]'" in capsys.readouterr().err


def test_a_search_without_a_complete_trial_fails(capsys, tiny, monkeypatch):
    def fail(config, **keywords):
        raise NonFiniteLossError("the loss became nan")

    monkeypatch.setattr(train_module, "train", fail)
    assert run_cli(*tiny, "--trials", "2") == 1
    shown = capsys.readouterr()
    assert "no trial is complete" in shown.err
    assert "with more --trials goes on" in shown.err
    assert "page: " in shown.out


def test_a_search_of_which_every_combination_fails_is_not_told_to_go_on(capsys, tiny, monkeypatch):
    def fail(config, **keywords):
        raise NonFiniteLossError("the loss became nan")

    monkeypatch.setattr(train_module, "train", fail)
    assert run_cli(*tiny[:2], "--search", "optimizer.lr=0.1,0.2") == 1
    shown = capsys.readouterr()
    assert "search other values under another --name" in shown.err
    assert "goes on" not in shown.err


@pytest.mark.parametrize(
    ("words", "total"),
    [(("grid",), 32), (("grid", "--trials", "40"), 32), (("grid", "--trials", "5"), 5), (("random",), 30)],
)
def test_a_grid_without_a_number_of_trials_has_all_its_points(capsys, tiny, monkeypatch, words, total):
    asked = []

    def take(queue, trials):
        asked.append(trials)
        raise StoppedError("enough is known", signal.SIGTERM)

    monkeypatch.setattr(SearchQueue, "take", take)
    values = ",".join(str(number / 1000) for number in range(1, 33))
    run_cli(*tiny[:2], "--search", f"optimizer.lr={values}", "--sampler", *words)
    assert asked == [total]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_page_is_written_ends_the_command_after_it(capsys, tiny, monkeypatch, number):
    monkeypatch.setattr(train_module, "train", Pretender())
    monkeypatch.setattr(search_page, "search_figures", lambda record: signal.raise_signal(number) or {})
    assert run_cli(*tiny, "--trials", "2", "--confirm", "2") == 128 + number
    shown = capsys.readouterr()
    assert "was written; the same command goes on" in shown.err
    assert (runs_root() / "tune-tiny" / "index.html").is_file()
    assert study_names() == ["tune-tiny"], "nothing is confirmed"


def study_names():
    return [study.study_name for study in open_storage().get_all_studies()]


def test_a_search_does_not_go_into_a_study(capsys, tiny):
    create_or_join("s", open_storage(), attributes={SPEC_KEY: {}})
    assert run_cli(*tiny, "--name", "s") == 2
    assert "holds something else by the name 's'" in capsys.readouterr().err


def test_the_command_searches_prints_the_verdict_and_goes_on_when_called_again(capsys, tiny, source):
    assert run_cli(*tiny, "--trials", "2") == 0
    shown = capsys.readouterr()
    assert "Trial t" in shown.out or "No other of 2 complete trials" in shown.out
    assert f"page: {runs_root() / 'tune-tiny' / 'index.html'}" in shown.out
    assert "trial t1 (2 of 2): optimizer.lr=" in shown.err
    assert run_cli(*tiny, "--trials", "3", "--json") == 0
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    assert len(content["tuning"]["trials"]) == 3
    assert "trial t2 (3 of 3)" in shown.err
    assert "trial t1" not in shown.err
    best = load_config(runs_root() / "tune-tiny" / "best.yaml")
    assert train(best, name="again", splits=make_splits(source, best.data)).finished


def test_the_command_to_train_the_result_can_be_pasted_whatever_the_folder_is_called(
    capsys, tiny, monkeypatch, tmp_path
):
    monkeypatch.setenv("CIFARLAB_RUNS", str(tmp_path / "my runs"))
    monkeypatch.setattr(train_module, "train", Pretender())
    assert run_cli(*tiny, "--trials", "2") == 0
    folder = next((tmp_path / "my runs").glob("*/best.yaml")).parent
    told = [capsys.readouterr().out, (folder / "best.yaml").read_text()]
    told.append(html.unescape((folder / "index.html").read_text()))
    for text in told:
        command = re.search("cifarlab train --config .*best.yaml'?", text)[0]
        assert shlex.split(command) == ["cifarlab", "train", "--config", str(folder / "best.yaml")]
