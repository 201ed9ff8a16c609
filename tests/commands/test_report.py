import base64
import json
import re
import shutil
from xml.etree import ElementTree as Xml

import pytest
import yaml
from tests.reporting.made_up import (
    PIXEL,
    Page,
    full_run,
    ledger_of,
    make_run,
    page_of,
    proportion,
    scores,
    seeded,
    words,
)

from cifarlab.commands.report import report, write_report
from cifarlab.config import Config, DataConfig
from cifarlab.errors import RunError
from cifarlab.reporting.words import key_figure
from cifarlab.run import Run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def test_it_shows_the_figures_of_evaluation_json(run):
    page, test = page_of(run), scores()
    low, high = test["accuracy_tta"]["interval"]
    assert "Our model gets 87.65 % of 10,000 test images right" in page.text
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


def test_the_first_screen_holds_the_answer_and_what_it_rests_on(run):
    done = write_report([run])
    page, advice = Page(done.page.read_text(encoding="utf-8")), done.analysis.advice
    screen = words(page.sections["answer"])
    assert advice.headline in screen
    assert f"How sure: {advice.confidence}." in screen
    assert len(advice.figures) == 3
    said = [part for figure in advice.figures for part in key_figure(figure.text) if part]
    for part in (*said, *advice.changes[:3], advice.next_test.what):
        assert words([part]) in screen


def test_sentences_of_the_first_screen_are_short(tmp_path):
    for name, correct in (("a", 8765), ("b", 7010), ("c", 6000)):
        page = page_of(make_run(tmp_path, name=name, correct=correct))
        screen = "".join(page.sections["answer"]).replace("\u00a0", " ")
        sentences = re.split(r"\n|(?<=[.:;?!])\s+", screen)
        longest = max(sentences, key=lambda sentence: len(sentence.split()))
        assert len(longest.split()) <= 30, longest


def test_every_kind_of_figure_is_marked_by_its_word(run):
    text = report(run).read_text(encoding="utf-8")
    for kind in ("measured", "quoted", "assumed", "computed"):
        assert f'<span class="tag {kind}">{kind}</span>' in text
    assert "CIFAR-10 is not our data" in Page(text).text


# what the page explains by an example, or counts by its own structure
IN_WORDS = [
    r"95 % interval",
    r"(1 in 20|19 in 20|9 of 10)",
    r"says 80 % is right in 80 %",
    r"per 1,000 images",
    r"from 1 \(low\) to 3 \(high\)",
    r"Year \d+|year 0",
    r"CIFAR-10(\.1|H)?",
    r"F1",
    r"SHA-256",
    r"\d{4}-\d{2}-\d{2}( \d{2}:\d{2} UTC)?",
    r"PyTorch [\d.]+|Python [\d.]+",
    r"the latest 20 of",
    r"(?<=al\. )\d{4}|(?<=Picard )\d{4}",
    r"first three",
    r"All \d+ assumptions|\d+ more, farther",
    r"1 min 32 s",  # 92.4 s
    r"\d+ of 11 questions|\d+ questions",
]
NUMBER = re.compile(r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?:e[-+]\d+)?")


def is_in(token, values):
    """Whether a number as written is one of the values: rounded to its decimals, or to two or three figures."""
    number = abs(float(token.replace(",", "")))
    decimals = len(token.partition(".")[2])
    sizes = [abs(value) for value in values]
    exact = any(abs(number - size) <= 0.5000001 * 10**-decimals for size in sizes)
    return exact or any(float(f"{size:.{figures}g}") == number for size in sizes for figures in (2, 3))


@pytest.mark.parametrize("kind", ["bare", "full", "several"])
def test_every_figure_of_the_page_stands_in_the_ledger(tmp_path, kind):
    if kind == "several":
        (tmp_path / "d.yaml").write_text("horizon_years: 7\nvendor: {claim_images: 54321}\n")
        runs = [full_run(tmp_path, config=seeded(seed), name=f"s{seed}") for seed in range(2)]
        page = Page(report(*runs, decision=tmp_path / "d.yaml").read_text(encoding="utf-8"))
    else:
        runs = [make_run(tmp_path) if kind == "bare" else full_run(tmp_path)]
        page = page_of(runs[0])
    entries = ledger_of(runs[0])
    numbers = [e[key] for e in entries for key in ("value", "low", "high")]
    values = [float(v) for v in numbers if isinstance(v, (int, float)) and not isinstance(v, bool)]
    values += [100 * value for value in values]  # shares are written in per cent
    texts = [str(e[key]) for e in entries for key in ("label", "source", "unit", "value")]
    quoted = {token for text in texts for token in NUMBER.findall(text)}
    astray = []
    for name, parts in page.sections.items():
        if name == "words":
            continue
        text = words(parts)
        for pattern in IN_WORDS:
            text = re.sub(pattern, " ", text)
        for match in NUMBER.finditer(text):
            token = match.group()
            if token not in quoted and not is_in(token, values):
                astray.append((name, text[max(0, match.start() - 50) : match.end() + 30]))
    assert not astray


def test_every_entry_of_the_ledger_says_where_it_is_from(tmp_path):
    run = full_run(tmp_path)
    report(run)
    entries = ledger_of(run)
    assert len({entry["id"] for entry in entries}) == len(entries)
    for entry in entries:
        assert entry["origin"] in ("measured", "quoted", "assumed", "computed"), entry
        assert entry["source"], entry
        assert entry["label"], entry
        assert entry["command"] or entry["origin"] in ("quoted", "assumed"), entry
        assert str(tmp_path) not in json.dumps(entry)


def test_the_marks_of_the_chart_stand_where_the_accuracies_are(run):
    text = report(run).read_text(encoding="utf-8")
    chart = next(svg for svg in re.findall(r'<svg class="wide".*?</svg>', text) if "Accuracy. " in svg)
    drawing = Xml.fromstring(chart.replace("&nbsp;", " "))
    ticks = [node for node in drawing if node.get("class") == "tick"]
    (x0, v0), *_, (x1, v1) = [(float(n.get("x")), float(n.text.replace("\u00a0%", ""))) for n in ticks]
    marks = [node for node in drawing if (node.get("class") or "").startswith("mark measured")]
    (ours,) = [float(node.get("cx")) for node in marks]
    assert v0 + (ours - x0) / (x1 - x0) * (v1 - v0) == pytest.approx(87.65, abs=0.2)
    diamonds = [node.get("d") for node in drawing if (node.get("class") or "").startswith("mark quoted")]
    places = [float(re.match(r"M([\d.]+)", path).group(1)) for path in diamonds]
    seen = [v0 + (place - x0) / (x1 - x0) * (v1 - v0) for place in places]
    assert min(abs(value - 70) for value in seen) < 0.3
    assert min(abs(value - 99) for value in seen) < 0.3


def test_nothing_is_loaded_from_anywhere(run):
    run.path.joinpath("plots", "confusion_test.png").write_bytes(PIXEL)
    page = page_of(run)
    assert len(page.loads) == 2  # the confusion matrix and the curves
    assert all(load.startswith("data:image/") for load in page.loads)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.tags.count("script") == 1  # that which sorts tables
    text = report(run).read_text(encoding="utf-8")
    assert "<script src" not in text
    assert "@import" not in text
    assert "url(" not in text
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= page.ids
    assert all(link.startswith("https://") for link in page.links if not link.startswith("#"))


def test_pictures_are_those_of_the_run_folder(run):
    plots = run.path / "plots"
    (plots / "curves.png").unlink()
    (plots / "confusion_test.png").write_bytes(PIXEL)
    (plots / "reliability_test.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (plots / "mistakes_test.svg").write_text("<svg>" + " " * 400_000 + "</svg>")  # too large: the PNG stands in
    (plots / "mistakes_test.png").write_bytes(PIXEL)
    page = page_of(run)
    pixel = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    assert page.loads.count(pixel) == 2
    assert sum(load.startswith("data:image/svg+xml;base64,") for load in page.loads) == 2


def test_missing_curves_are_drawn_and_present_ones_are_left_alone(run):
    curves = run.path / "plots" / "curves.png"
    curves.unlink()
    report(run)
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
    assert not {"u", "b"} & set(page.tags)
    assert page.tags.count("script") == 1
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
    done = write_report([run])
    page = Page(done.page.read_text(encoding="utf-8"))
    assert done.analysis is None
    assert done.spreadsheet is None
    assert "is left out: both figures are for CIFAR-10" in page.text
    assert "The answer" not in page.text
    assert "70 %" not in page.text.partition("Percentage points")[0]  # where the glossary explains what a point is
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


def test_what_was_not_measured_is_said_with_the_command_that_measures_it(tmp_path):
    page = page_of(make_run(tmp_path))
    for name in ("corruptions", "unknown", "shifted_sets", "attacks", "quality"):
        assert f"cifarlab evaluate runs/x --split test --sections {name}" in page.text
    full = page_of(full_run(tmp_path, name="y"))
    assert "Its stated confidence is 3.1 points from the truth on average." in full.text
    assert "The temperature was fitted on validation images." in full.text
    assert "--sections calibration" not in full.text
    assert "no attack was run; leave out --num-attacked 0" in full.text  # tried, and skipped


def test_the_hybrid_follows_from_the_coverage_curve(tmp_path):
    bare, full = write_report([make_run(tmp_path)]), write_report([full_run(tmp_path, name="y")])
    assert bare.analysis.hybrid is None
    assert "The mix follows from accuracy against coverage" in Page(bare.page.read_text(encoding="utf-8")).text
    text = Page(full.page.read_text(encoding="utf-8")).text
    coverage = full.analysis.hybrid.point.coverage
    assert f"our model answers {100 * coverage:.1f} % of" in text
    pays = full.analysis.hybrid.present_cost < full.analysis.option("build").present_cost
    assert ("It pays" in text, "No mix pays" in text) == (pays, not pays)
    assert "not judged on validation images" not in text  # the curve is that of val


def test_a_class_without_an_image_is_borne(tmp_path):
    test = scores()
    test["per_class"][0] |= {"support": 0, "recall": None, "precision": None, "f1": None}
    assert "The weakest class is dog" in page_of(make_run(tmp_path, splits={"test": test})).text


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


def test_val_stands_beside_test_when_it_was_evaluated(tmp_path):
    both = {"test": scores(), "val": {**scores(correct=4321, total=5000), "split": "val"}}
    assert "validation averaged over views 5,000 86.42 %" in page_of(make_run(tmp_path, splits=both)).text


def test_an_unfinished_run_is_refused(run):
    (run.path / "result.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        report(run)


@pytest.mark.parametrize("content", [None, {"format": 1, "splits": {}}, {"format": 2, "splits": {"val": scores()}}])
def test_a_run_without_a_test_evaluation_is_refused_with_the_command(run, content):
    if content is None:
        (run.path / "evaluation.json").unlink()
    else:
        run.write_json("evaluation.json", content)
    with pytest.raises(RunError, match=re.escape(f"cifarlab evaluate {run.path} --split test")):
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


def test_the_same_figures_give_the_same_bytes(tmp_path):
    run = full_run(tmp_path)
    names = ("report.html", "report.json", "report.xlsx", "README.md")
    report(run)
    first = [(run.path / name).read_bytes() for name in names]
    report(run)
    assert [(run.path / name).read_bytes() for name in names] == first
    elsewhere = Run(shutil.copytree(run.path, tmp_path / "elsewhere" / "x"))  # a folder's place leaves no trace
    report(elsewhere)
    assert [(elsewhere.path / name).read_bytes() for name in names] == first
