"""The page of a study: complete, self-contained, safe against what people call things, and the same every time."""

import dataclasses
import json
import math
import re
import statistics
from html.parser import HTMLParser

import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from tests.experiments.synthetic import make_record

from cifarlab.errors import RunError
from cifarlab.experiments.page import learning_curve, write_study_page
from cifarlab.experiments.study import StudyRecord
from cifarlab.run import Run

VALUES = {"relu": [0.70, 0.72, 0.71], "gelu": [0.74, 0.75, 0.745], "tanh": [0.60, None, 0.61]}
NASTY = {"<b>relu</b>": "a | b", "x`</code><script>alert(1)</script>": "*c*"}


class Page(HTMLParser):
    """Collects what a page would load, where it links, its tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.tags, self.texts = [], [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "poster", "data", "background", "action"):
                self.loads.append(value)
            if name == "href":
                (self.links if tag == "a" else self.loads).append(value)

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.texts.append(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    record = make_record(root / "runs", VALUES, views=0.01, pflop={"gelu": 0.02}, question="Which is best?")
    return record, write_study_page(record, root / "out")


def test_the_page_holds_answer_figures_and_pictures_and_loads_nothing(study):
    _, written = study
    page = Page(written.html.read_text(encoding="utf-8"))
    content = json.loads(written.json.read_text(encoding="utf-8"))
    assert "Which is best?" in page.text
    for sentence in content["sentences"]:
        assert sentence["text"] in page.text
    for figure in (
        "75.50 %",
        "74.50 %",
        "[74.26, 76.74]",
        "gelu relu 3.50",
        "cifarlab study convnet --vary",
        "A processor",
    ):
        assert figure in page.text, figure
    assert page.loads
    assert all(load.startswith("data:image/") for load in page.loads)
    assert page.links == ["https://arxiv.org/abs/2304.01910"]
    assert "script" not in page.tags
    assert page.tags.count("img") == 3  # accuracies, learning curves, compute
    assert "nan" not in page.text.lower()


def test_the_row_of_a_pair_has_every_test_and_effect(study):
    gelu, relu, tanh = VALUES["gelu"], VALUES["relu"], [0.60, 0.61]
    alone = [stats.ttest_ind(a, b, equal_var=False).pvalue for a, b in ((gelu, relu), (gelu, tanh), (relu, tanh))]
    holm = multipletests(alone, method="holm")[1]
    hedges = effectsize_smd(statistics.fmean(gelu), statistics.stdev(gelu), 3, statistics.fmean(relu), 0.01, 3)[0]
    permutations = 2 / math.comb(6, 3)  # of three and three no arrangement is further apart, but for its mirror image
    page = Page(study[1].html.read_text(encoding="utf-8"))
    row = [f"{alone[0]:.3f}", f"{holm[0]:.3f}", f"{permutations:.2f}", f"{3 * permutations:.2f}"]
    row += [f"{permutations:.2f}", f"{hedges:.1f}", "1.00"]  # every gelu above every relu
    assert f"gelu relu 3.50 [1.42, 5.58] yes {' '.join(row)} [" in page.text
    assert f"{alone[1]:.3f} {holm[1]:.3f}" in page.text


def test_both_kinds_of_chance_stand_beside_each_other(study):
    page = Page(study[1].html.read_text(encoding="utf-8"))
    images = 100 * math.sqrt(0.755 * 0.245 / 1000)  # of gelu's 75.5 % on 1,000 images
    assert f"gelu {100 * statistics.stdev(VALUES['gelu']):.2f} {images:.2f} too few seeds" in page.text


def test_the_csv_has_a_row_a_trial_in_types_that_pandas_understands(study):
    record, written = study
    table = pd.read_csv(written.csv)
    assert len(table) == 9
    assert list(table.columns[:5]) == ["arm", "seed", "state", "run", "model.convnet.activation"]
    assert table["seed"].dtype == "int64"
    assert table["val/accuracy"].dtype == table["compute_pflop"].dtype == "float64"
    done = table[table["state"] == "complete"]
    assert len(done) == 8
    for label, values in VALUES.items():
        kept = [value for value in values if value is not None]
        assert done[done["arm"] == label]["val/accuracy"].tolist() == kept
    failed = table[table["state"] == "failed"].iloc[0]
    assert (failed["arm"], failed["seed"]) == ("tanh", 1)
    assert "infinite at step 7" in failed["error"]
    assert math.isnan(failed["val/accuracy"])
    assert (table["model.convnet.activation"] == table["arm"]).all()
    assert set(done["diagnosis.verdict"]) == {"neither"}
    assert len(record.trials) == len(table)


def test_a_field_that_an_arm_leaves_alone_is_given_with_its_base_value(tmp_path):
    overrides = {"base": {}, "long": {"train.epochs": 20.0, "model.convnet.stages": [[1, 8], [2, 16]]}}
    record = make_record(tmp_path, {"base": [0.7], "long": [0.8]}, overrides=overrides, folders=False)
    table = pd.read_csv(write_study_page(record, tmp_path / "out").csv)
    assert table["train.epochs"].tolist() == [10.0, 20.0]
    assert [json.loads(cell) for cell in table["model.convnet.stages"]] == [
        [[2, 32], [2, 64], [2, 128]],
        [[1, 8], [2, 16]],
    ]


def test_the_json_is_strict_and_complete(study):
    record, written = study

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(written.json.read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["spec"]["arms"][0] == {"label": "relu", "overrides": {"model.convnet.activation": "relu"}}
    assert [arm["label"] for arm in content["arms"]] == ["gelu", "relu", "tanh"]
    assert content["arms"][2]["unfinished"] == {"failed": 1}
    assert content["finished"] == {"trials": 8, "of": 9}
    assert {(pair["first"], pair["second"]) for pair in content["pairs"]} == {
        ("gelu", "relu"),
        ("gelu", "tanh"),
        ("relu", "tanh"),
    }
    assert set(content["pairs"][0]) >= {"difference", "interval", "p_welch", "p_adjusted", "hedges_g", "supported"}
    assert content["made"]["torch"] == ["2.13.0+cpu"]
    assert content["made"]["commands"] == ["cifarlab study convnet --vary model.activation=relu,gelu --seeds 5"]
    assert (content["made"]["first"], content["made"]["last"]) == (
        "2026-11-21T10:00:00+00:00",
        "2026-11-21T10:02:00+00:00",
    )
    assert len(content["trials"]) == len(record.trials)
    assert content["val_images"] == 1000


def test_the_markdown_shows_the_same_beside_its_pictures(study):
    _, written = study
    text = written.markdown.read_text(encoding="utf-8")
    assert text.startswith("# Which is best?\n")
    content = json.loads(written.json.read_text(encoding="utf-8"))
    unescaped = text.replace("\\", "").replace("&gt;", ">").replace("&lt;", "<")
    for sentence in content["sentences"]:
        assert sentence["text"] in unescaped
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures == ["plots/arms.svg", "plots/learning.svg", "plots/compute.svg"]
    assert all((written.markdown.parent / picture).is_file() for picture in pictures)
    assert {path.suffix for path in written.plots} == {".png", ".svg"}
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table
        assert re.match(r"(\|-+:?)+\|$", table.splitlines()[1]), table
    for line, after in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        assert not (line.startswith("|") and after.startswith("#")), "a heading needs a blank line before it"
    assert "\n\n\n" not in text


def test_equal_input_gives_equal_bytes_and_no_path_of_the_machine(study, tmp_path):
    record, written = study
    again = write_study_page(record, tmp_path / "elsewhere")
    for name in ("html", "markdown", "csv", "json"):
        one, other = getattr(written, name).read_bytes(), getattr(again, name).read_bytes()
        assert one == other, name
        assert str(record.trials[0].run.parent).encode() not in one
    for path, twin in zip(written.plots, again.plots, strict=True):
        assert path.read_bytes() == twin.read_bytes()


def test_names_are_shown_not_obeyed(tmp_path):
    values = {label: [0.7, 0.71] for label in NASTY}
    overrides = {label: {"data.folder": folder} for label, folder in NASTY.items()}
    question = "Is <script>alert(2)</script> | better than `code`?"
    record = make_record(tmp_path / "runs", values, overrides=overrides, question=question)
    written = write_study_page(record, tmp_path / "out")
    page = Page(written.html.read_text(encoding="utf-8"))
    assert not {"script", "b"} & set(page.tags)
    assert question in page.text
    for label in NASTY:
        assert label in page.text
    text = written.markdown.read_text(encoding="utf-8")
    assert "<script>" not in re.sub(r"`[^`]*`", "", text)
    assert "<b>" not in text
    assert pd.read_csv(written.csv)["arm"].tolist() == list(NASTY) * 2


@pytest.mark.parametrize(
    ("values", "seeds"),
    [
        ({"fast70": [0.69]}, 1),
        ({"fast70": [0.69, 0.70, 0.68]}, 3),
        ({"relu": [], "gelu": []}, 2),
        ({"relu": [None], "gelu": [0.7]}, 1),
        ({f"lr {i}": [0.7 + i / 500, 0.701 + i / 500] for i in range(12)}, 3),
        ({"relu": [0.7] * 3, "gelu": [0.72] * 3}, 3),
    ],
    ids=["one run", "one arm", "nothing yet", "all but one failed", "twelve arms", "no spread"],
)
def test_every_kind_of_study_has_a_page(values, seeds, tmp_path):
    overrides = {label: {"optimizer.lr": 0.1 + i} for i, label in enumerate(values)}
    record = make_record(tmp_path, values, overrides=overrides, seeds=seeds, folders=False)
    written = write_study_page(record, tmp_path / "out")
    page = Page(written.html.read_text(encoding="utf-8"))
    assert all(label in page.text for label in values)
    assert "nan" not in page.text.lower()
    assert "nan" not in written.markdown.read_text(encoding="utf-8").lower()
    assert len(pd.read_csv(written.csv)) == len(values) * seeds
    json.loads(written.json.read_text(encoding="utf-8"))


def test_what_shows_no_spread_says_so_in_place_of_an_interval(tmp_path):
    values = {"relu": [0.7] * 3, "gelu": [0.72] * 3, "tanh": [0.6]}
    written = write_study_page(make_record(tmp_path, values, folders=False, seeds=3), tmp_path / "out")
    content = json.loads(written.json.read_text(encoding="utf-8"))
    assert [arm["interval"] for arm in content["arms"]] == [[None, None]] * 3
    (pair,) = content["pairs"]
    assert (pair["interval"], pair["p_welch"], pair["p_permutation"]) == ([None, None], None, 0.1)
    for text in (Page(written.html.read_text(encoding="utf-8")).text, written.markdown.read_text(encoding="utf-8")):
        assert text.count("no spread seen") >= 3  # two arms and their pair; a single seed shows nothing at all
        assert "[70.00, 70.00]" not in text


def test_a_permutation_test_is_called_exact_only_where_it_is(tmp_path):
    drawn = {"relu": [0.7 + i / 1000 for i in range(10)], "gelu": [0.72 + i / 1000 for i in range(10)]}
    written = write_study_page(make_record(tmp_path, drawn, folders=False), tmp_path / "out")
    page = Page(written.html.read_text(encoding="utf-8")).text
    assert "(drawn)" in page
    assert "(drawn)" in written.markdown.read_text(encoding="utf-8")
    assert "exact test" not in page.lower()
    assert "exact p" not in page.lower()


@pytest.mark.parametrize(("seeds", "cell"), [(4, "too few seeds"), (5, "too small to be seen")])
def test_the_spread_beyond_these_images_is_shown_from_five_seeds_on(seeds, cell, tmp_path):
    """Seeds whose errors fall at random differ by no more than that."""
    values = {"relu": [0.700, 0.7005, 0.700, 0.6995, 0.700][:seeds]}
    record = make_record(tmp_path, values, overrides={"relu": {}}, noise=3.0)
    written = write_study_page(record, tmp_path / "out")
    assert cell in Page(written.html.read_text(encoding="utf-8")).text
    assert cell in written.markdown.read_text(encoding="utf-8")


def test_a_grid_shows_the_effect_of_each_field(tmp_path):
    overrides = {f"{lr} {d}": {"optimizer.lr": lr, "model.convnet.dropout": d} for lr in (0.1, 0.2) for d in (0.0, 0.3)}
    values = {label: [0.7 + i / 50, 0.702 + i / 50, 0.705 + i / 50] for i, label in enumerate(overrides)}
    record = make_record(tmp_path, values, overrides=overrides, folders=False)
    written = write_study_page(record, tmp_path / "out")
    page = Page(written.html.read_text(encoding="utf-8"))
    assert "The effect of each field" in page.text
    assert "optimizer.lr 0.2 0.1 4.00" in page.text
    levels = json.loads(written.json.read_text(encoding="utf-8"))["effects"]["levels"]
    assert [(level["factor"], level["value"]) for level in levels] == [
        ("optimizer.lr", "0.1"),
        ("optimizer.lr", "0.2"),
        ("model.convnet.dropout", "0.0"),
        ("model.convnet.dropout", "0.3"),
    ]


def test_accuracies_on_test_are_shown_where_every_seed_of_an_arm_has_one(tmp_path):
    record = make_record(tmp_path / "runs", VALUES)
    for trial in record.trials:
        if trial.arm == "gelu" or (trial.arm == "relu" and trial.seed == 0):
            run, value = Run.open(trial.run), 0.7 + trial.seed / 100
            run.log_test_read("evaluate --split test", "study")
            splits = {"test": {"accuracy": {"value": value - 0.01}, "accuracy_tta": {"value": value}}}
            run.write_json("evaluation.json", {"format": 1, "splits": splits})
    written = write_study_page(record, tmp_path / "out")
    content = json.loads(written.json.read_text(encoding="utf-8"))
    assert [arm["test"] for arm in content["arms"]] == [pytest.approx(0.71), None, None]
    assert content["arms"][0]["test_sd"] == pytest.approx(0.01)
    assert content["test_reads"] == 4
    page = Page(written.html.read_text(encoding="utf-8"))
    assert "71.00 ± 1.00 %" in page.text
    assert "71.00 ± 1.00 %" in written.markdown.read_text(encoding="utf-8")
    assert "the test split was not read" not in page.text
    table = pd.read_csv(written.csv)
    assert table[table["arm"] == "gelu"]["test/accuracy_tta"].tolist() == pytest.approx([0.70, 0.71, 0.72])
    assert table[table["arm"] == "tanh"]["test/accuracy"].isna().all()


def test_runs_that_are_gone_are_told(study, tmp_path):
    record, _ = study
    trials = tuple(dataclasses.replace(trial, run=tmp_path / trial.run.name) for trial in record.trials)
    written = write_study_page(StudyRecord(record.spec, trials), tmp_path / "out")
    page = Page(written.html.read_text(encoding="utf-8"))
    assert "8 of the finished trials cannot be read" in page.text
    assert "gelu is best" in page.text


def test_a_folder_that_cannot_be_written_is_one_line(study, tmp_path):
    record, _ = study
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*file"):
        write_study_page(record, tmp_path / "file")


def test_a_curve_stops_where_the_first_seed_stopped():
    runs = [
        [{"epoch": 1, "val/accuracy": 0.5}, {"epoch": 2, "val/accuracy": 0.6}, {"epoch": 3, "val/accuracy": 0.7}],
        [{"epoch": 1, "val/accuracy": 0.3}, {"epoch": 2, "val/accuracy": 0.4}],
    ]
    curve = learning_curve("a", runs)
    assert curve is not None
    assert curve.epochs == (1.0, 2.0)
    assert curve.mean == pytest.approx((0.4, 0.5))
    assert (curve.lowest, curve.highest) == ((0.3, 0.4), (0.5, 0.6))
    part = [{"epoch": 1, "step": 40, "val/accuracy": 0.5}, {"epoch": 2, "step": 50, "val/accuracy": 0.6}]
    assert learning_curve("a", [part]).epochs == (1, 1.25)
    assert learning_curve("a", []) is None
    assert learning_curve("a", [[{"epoch": 1}]]) is None
