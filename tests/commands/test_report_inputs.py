"""The report of whatever is legal: several runs, own prices, own images, the vendor's answers, odd names and sums."""

import json
import re
import shlex

import pytest
import yaml
from tests.reporting.made_up import Page, full_run, ledger_of, make_run, page_of, scores, section, seeded, words

from cifarlab.cli_report import run_report
from cifarlab.commands.report import report, write_decision, write_report
from cifarlab.config import Config, DataConfig
from cifarlab.decision import default_yaml
from cifarlab.errors import UsageError
from cifarlab.evaluation.sections import SECTIONS


def test_several_seeds_give_mean_and_interval(tmp_path):
    corrects = (8765, 8790, 8741)
    runs = [make_run(tmp_path, seeded(seed), name=f"s{seed}", correct=correct) for seed, correct in enumerate(corrects)]
    page = Page(report(*runs).read_text(encoding="utf-8"))
    # by hand: mean 0.876533, sd 0.245 points; t of 2 degrees of freedom 4.303, so half width 0.609 points
    assert "3 trainings of this recipe" in page.text
    assert "87.65 % on average (95 % interval of the mean 87.04 to 88.26 %)" in page.text
    assert "0.25 points" in page.text
    assert "not the best" in page.text
    assert runs[0].path.joinpath("report.html").is_file()
    entries = {entry["id"]: entry for entry in ledger_of(runs[0])}
    assert entries["seeds.mean"]["value"] == pytest.approx(sum(corrects) / 30_000)


def test_a_run_on_ones_own_images_is_shown(tmp_path):
    own = make_run(
        tmp_path,
        Config(recipe="own", data=DataConfig(folder="/some/where/photos")),
        name="own",
        correct=930,
        total=1000,
    )
    page = page_of(make_run(tmp_path), transfer=own)
    assert "93.00 % of 1,000 test images" in page.text
    assert "trained on photos" in page.text
    assert "/some/where" not in page.text


def test_a_run_on_public_images_is_not_taken_for_ones_own(tmp_path):
    other = make_run(tmp_path, Config(data=DataConfig(dataset="cifar100")), name="hundred")
    with pytest.raises(UsageError, match=r"--transfer takes .* hundred was trained on CIFAR-100"):
        report(make_run(tmp_path), transfer=other)


def test_a_report_about_ones_own_images_does_not_say_that_they_are_missing(tmp_path):
    own = make_run(tmp_path, Config(data=DataConfig(folder="/some/where/photos")), name="own")
    page = page_of(own)
    assert "All of this page is about images of our own" in page.text
    assert "Not measured." not in words(page.sections["transfer"])
    assert "images of one's own" not in (own.path / "README.md").read_text(encoding="utf-8")
    public = make_run(tmp_path)
    assert "Not measured." in words(page_of(public).sections["transfer"])
    assert "images of one's own" in (public.path / "README.md").read_text(encoding="utf-8")


def test_where_runs_lie_is_nobodys_business(tmp_path):
    config = Config(recipe="own", data=DataConfig(folder="/some/where/photos"))
    config = Config(recipe="own", data=config.data, model=type(config.model)(init="/some/where/runs/first"))
    own = make_run(tmp_path, config, name="own")
    page = page_of(make_run(tmp_path), transfer=own)
    assert "starting from first" in page.text
    assert "the weights of run first" in page_of(own).text
    for text in (page.text, page_of(own).text, (own.path / "README.md").read_text(encoding="utf-8")):
        assert "/some/where" not in text


def test_the_vendors_answers_make_the_comparison_a_paired_one(tmp_path):
    run = full_run(tmp_path)
    said = run.load_predictions("test").labels_N.clone()
    said[:3000] = (said[:3000] + 1) % 3  # 70 % right; ours is wrong on the last 1,235
    file = tmp_path / "vendor.csv"
    file.write_text("index,prediction\n" + "\n".join(f"{i},{p}" for i, p in enumerate(said.tolist())))
    done = write_report([run], vendor_predictions=file)
    page = Page(done.page.read_text(encoding="utf-8"))
    assert "Ours alone is right on 3,000" in page.text
    assert "alone on 1,235" in page.text
    assert "--vendor-predictions vendor.csv" in page.text
    assert "On the same 10,000 images our model is" in words(page.sections["answer"])
    assert str(tmp_path) not in page.text
    entries = {entry["id"]: entry for entry in ledger_of(run)}
    told = ("amount.vendor.accuracy", "comparison.vendor.accuracy", "evidence.vendor_correct", "evidence.only_ours")
    for name in told:
        assert "vendor.csv" in entries[name]["source"], name
        assert entries[name]["command"] == "cifarlab report runs/x --vendor-predictions vendor.csv", name
    assert entries["amount.ours.accuracy"]["source"].endswith("x/evaluation.json")


def test_figures_of_the_hybrid_are_from_validation_images_and_say_so(tmp_path):
    run = full_run(tmp_path)
    report(run)
    entries = [e for e in ledger_of(run) if e["id"].startswith(("amount.hybrid.c", "amount.hybrid.k", "hybrid.curve"))]
    measured = [entry for entry in entries if entry["origin"] == "measured"]
    assert len(measured) > 5
    for entry in measured:
        assert "validation images" in entry["source"]
        assert entry["command"] == "cifarlab evaluate runs/x --split val --sections selective"


def test_the_accuracy_of_each_training_is_from_its_own_folder(tmp_path):
    runs = [make_run(tmp_path, seeded(seed), name=f"s{seed}") for seed in range(2)]
    report(*runs)
    entries = {entry["id"]: entry for entry in ledger_of(runs[0])}
    for name in ("seeds.1", "evidence.seed_accuracy.1"):
        assert entries[name]["source"] == "s1/evaluation.json"
        assert entries[name]["command"] == "cifarlab evaluate runs/s1 --split test"


def test_a_training_that_is_not_the_first_is_not_called_the_first(tmp_path):
    val = {"val": scores(), "test": scores()}
    runs = [make_run(tmp_path, seeded(seed), name=f"s{seed}", splits=val) for seed in range(2)]
    assert "the first of them, not the best" in Page(report(*runs).read_text(encoding="utf-8")).text
    runs[0].write_json("evaluation.json", {"format": 2, "splits": {"val": scores()}})
    text = Page(report(*runs).read_text(encoding="utf-8")).text
    assert "the first of them that was evaluated on test, not the best" in text


def test_prices_of_ones_own_are_taken_and_named(tmp_path):
    file = tmp_path / "decision.yaml"
    file.write_text(
        "vendor: {name: Acme}\namounts:\n  vendor:\n    price_per_1000_images: {low: 7.5, base: 7.5, high: 7.5, "
        'unit: "USD per 1,000 images", source: "offer of Acme", date: 2026-11-01, origin: quoted}\n'
    )
    page = page_of(make_run(tmp_path), decision=file)
    assert "Acme's image classifier" in page.text
    assert "offer of Acme" in page.text
    assert "Nobody has made an offer" not in page.text
    assert "Nobody has made an offer" in page_of(make_run(tmp_path)).text


def test_a_guess_of_ones_own_is_no_offer(tmp_path):
    file = tmp_path / "decision.yaml"
    file.write_text("amounts: {vendor: {price_per_1000_images: 7.5}}\n")
    assert "Nobody has made an offer" in page_of(make_run(tmp_path), decision=file).text


def test_the_number_of_images_behind_the_claim_is_told_where_it_is_known(tmp_path):
    file = tmp_path / "decision.yaml"
    file.write_text("vendor: {claim_images: 2345}\n")
    text = page_of(make_run(tmp_path), decision=file).text
    assert "says that its figure was counted on 2,345 images" in text
    assert "does not say on how many" not in text
    assert "at face value" not in text
    assert "does not say on how many" in page_of(make_run(tmp_path)).text


def test_commands_can_be_copied_whatever_the_run_is_called(tmp_path):
    run = make_run(tmp_path, name="my run's")
    text = page_of(run).text
    entries = ledger_of(run)
    told = re.findall(r"cifarlab (?:train|evaluate|report) [^.]*", text)
    assert any("my run" in command for command in told)
    for command in [*told, *(entry["command"] for entry in entries)]:
        if "my run" in command:
            assert "'runs/my run'\"'\"'s" in command, command


def test_commands_of_several_runs_name_them_all(tmp_path):
    runs = [make_run(tmp_path, seeded(seed), name=f"s{seed}") for seed in range(2)]
    text = Page(report(*runs).read_text(encoding="utf-8")).text
    for option in ("--vendor-predictions FILE", "--transfer runs/own"):
        assert f"cifarlab report runs/s0 runs/s1 {option}" in text


def test_one_open_question_is_one(tmp_path):
    done = {name: section(findings=["-"]) for name in SECTIONS if name != "attacks"}
    text = page_of(make_run(tmp_path, sections=done)).text
    assert "10 of 11 questions" in text
    assert "One question of the evaluation , with its command" in text
    assert not re.search(r"\b1 questions", text)


LONG = "a class with a very long name indeed, and " + "x" * 80


@pytest.mark.parametrize(
    "names",
    [["<b>yes</b>", "a \"no\" & 'never'"], [LONG, "日本語の名前", "\U0001f600 smile"], [f"c{i}" for i in range(100)]],
)
def test_any_number_of_classes_of_any_name(tmp_path, names):
    page = page_of(make_run(tmp_path, names=names, confusion=None, correct=5000))
    assert "b" not in page.tags
    for name in names:
        assert words([name]) in page.text
    assert ("All 100 classes" in page.text) == (len(names) == 100)


@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000)])
def test_extreme_accuracies_are_borne(tmp_path, correct, total):
    text = page_of(make_run(tmp_path, correct=correct, total=total, tta=False)).text
    assert f"{100 * correct / total:.2f} % of {total:,} test images" in text


def decision_file(path, value, **settings):
    """Every amount that may have this value has it."""
    default = yaml.safe_load(default_yaml())
    amounts = {key: dict(entries) for key, entries in default["amounts"].items()}
    for section_name, entries in amounts.items():
        for name, entry in entries.items():
            fits = entry["unit"].partition(" per ")[0] not in ("share", "factor") and name != "days_per_year"
            ends = dict.fromkeys(("low", "base", "high"), value if fits else entry["base"])
            unit = entry["unit"].replace("USD", settings.get("currency", "USD"))
            amounts[section_name][name] = {**ends, "unit": unit}
    path.write_text(yaml.safe_dump({"amounts": amounts, **settings}, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize("value", [0, 1e-9, 1_000_000])
@pytest.mark.parametrize(
    "settings", [{"horizon_years": 1, "currency": "CHF"}, {"horizon_years": 10, "status_quo": "none"}]
)
def test_costs_of_any_size_and_currency_are_drawn(tmp_path, value, settings):
    file = decision_file(tmp_path / "d.yaml", value, **settings)
    page = page_of(full_run(tmp_path), decision=file)
    assert "nan" not in page.text.lower().split()
    assert "inf" not in page.text.lower().split()
    years = settings["horizon_years"]
    assert ("Cost over one year" if years == 1 else f"Cost over {years} years") in page.text
    assert bool(re.search(r"USD \d", page.text)) == ("currency" not in settings)


def test_the_commented_decision_file_is_written_once(tmp_path):
    file = write_decision(tmp_path / "decision.yaml")
    assert "#" in file.read_text()
    page_of(make_run(tmp_path), decision=file)
    with pytest.raises(UsageError, match="left as it is"):
        write_decision(file)


def test_the_next_command_can_be_copied_whatever_files_are_called(tmp_path, capsys):
    run_report(["runs/my run", "--write-decision", str(tmp_path / "our figures.yaml")])
    command = capsys.readouterr().out.partition("then ")[2].strip()
    file = str(tmp_path / "our figures.yaml")
    assert shlex.split(command) == ["cifarlab", "report", "runs/my run", "--decision", file]


def test_somebodys_readme_is_not_written_over(tmp_path):
    run, folder = make_run(tmp_path), tmp_path / "project"
    folder.mkdir()
    (folder / "README.md").write_text("# Our project\n")
    with pytest.raises(UsageError, match="left as it is"):
        report(run, out=folder)
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("README.md", "# Our project\n")]
    for _ in range(2):  # a card of ours is made anew
        report(run, out=tmp_path / "other")
    assert "library_name: cifarlab" in (tmp_path / "other" / "README.md").read_text(encoding="utf-8")


def test_the_card_says_where_the_report_lies(tmp_path):
    run = make_run(tmp_path, name="st-relu-s0")
    folder = tmp_path / "studies" / "st"
    folder.mkdir(parents=True)
    trials = [{"arm": "relu", "seed": 0, "run": run.name, "state": "complete"}]
    study = {"format": 1, "name": "st", "arms": [{"label": "relu", "mean": 0.8}], "trials": trials}
    (folder / "study.json").write_text(json.dumps(study))
    assert report(folder) == folder / "report.html"
    assert "Report: report.html in runs/studies/st." in (run.path / "README.md").read_text(encoding="utf-8")
    report(run)
    assert "Report: report.html in this folder." in (run.path / "README.md").read_text(encoding="utf-8")


def test_the_command_for_the_hybrid_names_images_there_are(tmp_path):
    run = make_run(tmp_path)
    selective = "cifarlab evaluate runs/x --split {} --sections selective"
    assert selective.format("val") in page_of(run).text
    run.write_json("environment.json", {"num_val": 0})
    assert selective.format("val") not in page_of(run).text
