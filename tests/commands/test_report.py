import base64
import re
from html.parser import HTMLParser

import pytest
import yaml

from cifarlab.commands.report import report
from cifarlab.config import Config, DataConfig
from cifarlab.errors import RunError
from cifarlab.run import Run
from cifarlab.stats import wilson_interval

CLASSES = ["cat", "dog", "ship"]
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def proportion(correct, total):
    return {
        "value": correct / total,
        "interval": wilson_interval(correct, total),
        "method": "wilson",
        "confidence": 0.95,
    }


def scores(correct=8765, total=10_000, names=CLASSES, *, tta=True):
    plain = proportion(correct - 210, total)
    return {
        "split": "test",
        "num_images": total,
        "class_names": names,
        "accuracy": plain if tta else proportion(correct, total),
        "accuracy_tta": proportion(correct, total) if tta else None,
        "headline": "accuracy_tta" if tta else "accuracy",
        "views": "flip_translate" if tta else "none",
        "views_share": 0.25,
        "loss": 0.4321,
        "top3": 0.9876,
        "macro_f1": 0.8712,
        "ece": 0.0312,
        "reliability": [
            {"lower": 0.0, "upper": 0.5, "count": 0, "confidence": None, "accuracy": None},
            {"lower": 0.5, "upper": 1.0, "count": total, "confidence": 0.95, "accuracy": correct / total},
        ],
        "per_class": [
            {
                "name": name,
                "support": 3000 + i,
                "precision": 0.81 + i / 100,
                "recall": 0.8 + i / 50,
                "f1": 0.811 + i / 100,
            }
            for i, name in enumerate(names)
        ],
        "confusion": [[9, 1, 0], [2, 8, 0], [0, 0, 10]],
        "confusions": [{"label": 1, "predicted": 0, "count": 234, "share": 0.078}],
        "mistakes": [{"index": 4711, "label": 0, "predicted": 1, "confidence": 0.987, "name": ""}],
        "time": "2026-01-02T03:04:05+00:00",
        "seconds": 12.5,
        "notices": ["The run does not record its split."],
    }


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def make_run(root, config=None, **changes):
    run = Run.create(config or Config(recipe="fast90"), name=changes.pop("name", "x"), root=root)
    run.write_json("evaluation.json", {"format": 1, "splits": {"test": scores(**changes)}})
    run.write_metrics(
        [
            {"epoch": e, "train/loss": 2 / e, "train/accuracy": 0.5, "val/loss": 2 / e, "val/accuracy": 0.6}
            for e in (1, 2, 3)
        ]
    )
    run.write_json(
        "environment.json", {"torch": "2.13.0", "command": "cifarlab train fast90", "gpu": None, "num_test": 10_000}
    )
    diagnosis = {"verdict": "neither", "sentence": "The run neither overfits nor underfits: made-up sentence."}
    figures = {"train_clock_seconds": 92.4, "compute_pflop": 0.0214, "num_parameters": 494_128, "diagnosis": diagnosis}
    run.write_json("result.json", {"format": 1, "epochs": 3, "steps": 720, **figures})
    run.log_test_read("evaluate --split test", "the one reading")
    return run


class Page(HTMLParser):
    """Collects what a page would load, where it links, its tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.tags, self.texts, self.ids = [], [], [], [], set()
        self.feed(text)
        self.text = " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            if name in ("src", "srcset", "poster", "data", "background", "action"):
                self.loads.append(value)
            if name == "href":
                (self.links if tag == "a" else self.loads).append(value)

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.texts.append(data)


def page_of(run):
    return Page(report(run).read_text(encoding="utf-8"))


def test_it_shows_the_figures_of_evaluation_json(run):
    page, test = page_of(run), scores()
    low, high = test["accuracy_tta"]["interval"]
    assert "Our model classifies 87.65 % of 10,000 test images correctly" in page.text
    assert f"{100 * low:.2f} to {100 * high:.2f} %" in page.text
    assert "85.55 %" in page.text  # without views
    for figure in ("first three 98.76 %", "Macro F1 87.12 %", "(cross-entropy) 0.432", "(ECE) 3.12 %"):
        assert figure in page.text
    for row in test["per_class"]:
        figures = (row["recall"], row["precision"], row["f1"])
        assert all(f"{100 * figure:.1f} %" in page.text for figure in figures)
    assert re.search(r"234 images of dog \(7\.8 % of that class\) are taken for cat", page.text)
    assert "4711 cat dog 98.7 %" in page.text
    assert "too sure of itself" in page.text  # states 95 %, gets 87.65 %
    assert "1 min 32 s" in page.text
    assert "0.0214 PFLOP" in page.text
    assert "The run does not record its split." in page.text
    assert "the one reading" in page.text
    assert "was read once" in page.text
    assert "for the 25 % of the images" in page.text
    assert "made-up sentence" in page.text
    assert "cifarlab train fast90" in page.text
    assert "GPU none" in page.text


def test_it_answers_build_and_marks_what_is_quoted_and_assumed(run):
    page = page_of(run)
    assert "Build. Build our own classifier" in page.text
    assert re.search(r"\+17\.[67] points", page.text)  # 17.65
    for kind in ("measured", "quoted", "assumed"):
        assert kind in page.text
    assert "CIFAR-10 is not our data" in page.text


@pytest.mark.parametrize(("correct", "answer"), [(7010, "Measure first."), (6000, "Buy."), (8000, "Build.")])
def test_the_answer_follows_the_accuracy(tmp_path, correct, answer):
    assert f"The answer {answer}" in page_of(make_run(tmp_path, correct=correct)).text


def test_an_accuracy_below_the_claim_of_a_run_that_was_not_trained_out_is_no_reason_to_buy(tmp_path):
    run = make_run(tmp_path, correct=6000)
    result = run.read_json("result.json")
    for verdict in ("underfits", "unknown"):
        run.write_json("result.json", {**result, "diagnosis": {"verdict": verdict, "sentence": "-"}})
        assert "The answer Measure first." in page_of(run).text


def test_the_marks_of_the_figure_stand_where_the_accuracies_are(run):
    text = report(run).read_text(encoding="utf-8")
    places = [float(place) for place in re.findall(r'class="dot" style="left: ([\d.]+)%"', text)]
    ticks = [(float(p), float(t)) for p, t in re.findall(r'<span style="left: ([\d.]+)%">(\d+)\u00a0%</span>', text)]
    (first, start), (last, end) = ticks[0], ticks[-1]
    assert (first, last, end) == (0, 100, 100)
    assert [start + (end - start) * place / 100 for place in places] == pytest.approx([70, 87.65, 99], abs=0.01)


def test_nothing_is_loaded_from_anywhere(run):
    run.path.joinpath("plots").mkdir()
    run.path.joinpath("plots", "confusion_test.png").write_bytes(PIXEL)
    page = page_of(run)
    assert len(page.loads) == 2  # the confusion matrix and the curves
    assert all(load.startswith("data:image/") for load in page.loads)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    text = report(run).read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(" not in text
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= page.ids
    assert all(link.startswith("https://arxiv.org/abs/") for link in page.links if not link.startswith("#"))


def test_pictures_are_those_of_the_run_folder(run):
    plots = run.path / "plots"
    plots.mkdir()
    (plots / "confusion_test.png").write_bytes(PIXEL)
    (plots / "reliability_test.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (plots / "mistakes_test.svg").write_text("<svg>" + " " * 400_000 + "</svg>")  # too large: the PNG stands in
    (plots / "mistakes_test.png").write_bytes(PIXEL)
    page = page_of(run)
    pixel = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    assert page.loads.count(pixel) == 2
    assert sum(load.startswith("data:image/svg+xml;base64,") for load in page.loads) == 2
    assert "The picture plots/per_class_test.png was not recorded." in page.text


def test_missing_curves_are_drawn_and_present_ones_are_left_alone(run):
    report(run)
    curves = run.path / "plots" / "curves.png"
    assert curves.read_bytes().startswith(b"\x89PNG")
    curves.write_bytes(PIXEL)
    report(run)
    assert curves.read_bytes() == PIXEL


def test_untrusted_text_is_shown_not_obeyed(tmp_path):
    nasty = "<script>alert(1)</script>"
    run = make_run(tmp_path, names=[nasty, "a|b`c", "[x](javascript:alert(1))"])
    environment = {"cpu": "<img src=x onerror=y>", "command": "cifarlab train `</code>`", "extra": {"k": "<b>"}}
    run.write_json("environment.json", environment)
    run.log_test_read("<i>evaluate", "because <u>")
    text = report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "u", "b"} & set(page.tags)
    assert "<i>evaluate" not in text
    assert nasty in page.text
    assert "<img src=x onerror=y>" in page.text
    assert all(load.startswith("data:image/") for load in page.loads)
    card = (run.path / "README.md").read_text(encoding="utf-8")
    body = card.split("---\n", 2)[2]
    assert "<script" not in body
    assert "<img" not in body
    assert r"a\|b\`c" in body
    assert "[x](" not in body.replace(r"\[x\](", "")
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_the_model_card_has_a_header_that_machines_read(run):
    report(run)
    card = (run.path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    header = yaml.safe_load(card.split("---\n", 2)[1])
    assert header["license"] == "apache-2.0"
    assert header["library_name"] == "cifarlab"
    assert header["pipeline_tag"] == "image-classification"
    assert header["datasets"] == ["uoft-cs/cifar10"]
    (result,) = header["model-index"][0]["results"]
    assert result["dataset"]["split"] == "test"
    assert result["metrics"] == [{"type": "accuracy", "name": "Accuracy, test-time views", "value": 0.8765}]
    assert "87.65" in card
    assert "Not fit to steer a vehicle" in card


@pytest.mark.parametrize("data", [DataConfig(dataset="cifar100"), DataConfig(folder="/some/where/our photos")])
def test_other_images_are_not_compared_with_the_vendor(tmp_path, data):
    run = make_run(tmp_path, Config(data=data))
    page = page_of(run)
    assert "is left out: both figures are for CIFAR-10" in page.text
    assert "Build." not in page.text
    assert "70 %" not in page.text
    assert ("our photos" if data.folder else "CIFAR-100") in page.text
    header = yaml.safe_load((run.path / "README.md").read_text(encoding="utf-8").split("---\n", 2)[1])
    assert header["datasets"] == ([] if data.folder else ["uoft-cs/cifar100"])
    assert "/some/where" not in (run.path / "README.md").read_text(encoding="utf-8")


def test_what_is_absent_is_said_to_be_not_recorded(tmp_path):
    run = Run.create(Config(), name="bare", root=tmp_path)
    total = {"num_images": 50, "class_names": ["a", "b"], "accuracy": proportion(40, 50)}
    run.write_json("evaluation.json", {"format": 1, "splits": {"test": total}})
    run.write_json("result.json", {"format": 1})
    page = page_of(run)
    assert page.text.count("not recorded") > 10
    assert "80.00 %" in page.text
    assert "No reading of the test split is recorded" in page.text
    assert not (run.path / "plots").exists()


def test_a_class_without_an_image_is_borne(run):
    test = scores()
    test["per_class"][0] |= {"support": 0, "recall": None, "precision": None, "f1": None}
    run.write_json("evaluation.json", {"format": 1, "splits": {"test": test}})
    assert "The weakest class is dog" in page_of(run).text


def test_accuracy_without_views_is_not_called_averaged(tmp_path):
    page = page_of(make_run(tmp_path, tta=False))
    assert "87.65 %" in page.text
    assert "averaging" not in page.text
    assert "averaged over views" not in page.text


def test_many_readings_are_counted_and_called_what_they_are(run):
    for number in range(24):
        run.log_test_read("evaluate", f"reading {number}")
    page = page_of(run)
    assert "was read 25 times" in page.text
    assert "flatters the model" in page.text
    assert "reading 23" in page.text
    assert "the one reading" not in page.text  # the oldest are left out, and the caption says so
    assert "the latest 20 of 25" in page.text


def test_val_stands_beside_test_when_it_was_evaluated(run):
    both = {"test": scores(), "val": {**scores(correct=4321, total=5000), "split": "val"}}
    run.write_json("evaluation.json", {"format": 1, "splits": both})
    assert "val averaged over views 5,000 86.42 %" in page_of(run).text


def test_an_unfinished_run_is_refused(run):
    (run.path / "result.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        report(run)


@pytest.mark.parametrize("content", [None, {"format": 1, "splits": {}}, {"format": 1, "splits": {"val": scores()}}])
def test_a_run_without_a_test_evaluation_is_refused_with_the_command(run, content):
    if content is None:
        (run.path / "evaluation.json").unlink()
    else:
        run.write_json("evaluation.json", content)
    with pytest.raises(RunError, match=re.escape(f"cifarlab evaluate {run.path}")):
        report(run)
    assert not (run.path / "report.html").exists()


def test_an_evaluation_that_is_damaged_or_newer_is_refused(run):
    (run.path / "evaluation.json").write_text('{"format": 1, "splits"')
    with pytest.raises(RunError, match="damaged"):
        report(run)
    run.write_json("evaluation.json", {"format": 99, "splits": {"test": scores()}})
    with pytest.raises(RunError, match="newer cifarlab"):
        report(run)
    without = {key: value for key, value in scores().items() if key != "num_images"}
    run.write_json("evaluation.json", {"format": 1, "splits": {"test": without}})
    with pytest.raises(RunError, match="holds no num_images"):
        report(run)


def test_the_same_folder_gives_the_same_page(run):
    first = report(run).read_bytes()
    assert report(run).read_bytes() == first
