"""The import rule: each room may import only rooms above it; nothing happens at import."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cifarlab

ROOT = Path(cifarlab.__file__).parent
# Each line may import lines above it. Rooms of one line do not import each other, but for the pairs in ALLOWED.
LAYERS = [
    {
        "errors",
        "console",
        "metrics",
        "stats",
        "phrases",
        "differences",
        "device",
        "seeding",
        "environment",
        "machine",
        "ranks",
        "strict_yaml",
    },
    {"config", "comparison", "decision", "diagnosis", "plots", "hazards"},
    {"config_yaml", "recipes", "recipes_predecessors", "data", "models", "pages", "predictions_file"},
    {"run", "arithmetic", "candidate_names"},
    {"answers", "inference"},
    {"comparison_page", "evaluation", "export"},
    {"reporting", "training", "serving"},
    {"experiments"},
    {"commands"},
    {"cli_arguments", "cli_tools"},
    {"cli_compare", "cli_evaluate", "cli_report", "cli_study", "cli_tune"},
    {"cli"},
    {"__main__"},
]
ALLOWED = {
    ("device", "errors"),
    ("metrics", "errors"),
    ("stats", "errors"),
    ("console", "errors"),
    ("console", "phrases"),
    ("differences", "stats"),
    ("ranks", "errors"),
    ("strict_yaml", "errors"),
    ("environment", "machine"),
    ("machine", "device"),
    ("recipes", "recipes_predecessors"),
}
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST) -> list[tuple[int, str, str]]:
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cifarlab":
            names = [node.module] if node.module != "cifarlab" else [f"cifarlab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("cifarlab.")]
        found += [(node.lineno, name.split(".")[1], name) for name in names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_rooms_above_it(path):
    here = room(path)
    for line, other, name in imported_rooms(ast.parse(path.read_text())):
        if other == here:
            chained = here == "commands" and path.name not in ("quickstart.py", "study.py")
            assert not chained, f"{path.name}:{line}: commands never import each other ({name})"
            continue
        fits = LEVEL[other] < LEVEL[here] or (here, other) in ALLOWED
        assert fits, f"{path.name}:{line}: {here} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 50, f"{path.name}: {node.name} is too long"


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) not in ("console", "cli", "__main__")], ids=lambda p: p.name
)
def test_only_the_terminal_prints(path):
    for node in ast.walk(ast.parse(path.read_text())):
        is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        assert not is_print, f"{path.name}:{node.lineno} prints"


def test_help_does_not_import_torch():
    code = "import sys; from cifarlab.cli import main; main(['--help']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_does_nothing():
    code = (
        "import sys, cifarlab, os; before = set(os.listdir('.'));"
        "import cifarlab.cli; assert 'torch' not in sys.modules; assert set(os.listdir('.')) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_neither_compiler_nor_matplotlib_is_loaded_before_the_first_step_of_a_run_and_no_compiler_later(tmp_path):
    """Each takes most of a second, a quarter of the time to the first step."""
    code = (
        "import sys, torch; from cifarlab.commands.train import train; from cifarlab.config import *;"
        "from cifarlab.data import ImageSet, Splits;"
        "pixels = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8);"
        "images = ImageSet(pixels, torch.arange(40) % 2, ('a', 'b'));"
        "splits = Splits(images, images, None, 'none', '');"
        "model = ModelConfig(speednet=SpeednetConfig(widths=(8, 8, 8)));"
        "from cifarlab.training.loop import Hooks;"
        "loaded = [];"
        "slow = {'torch._dynamo', 'matplotlib'};"
        "hooks = Hooks(on_step=lambda report: loaded.append(slow & set(sys.modules)));"
        "train(Config(model=model, train=TrainConfig(epochs=1, batch_size=20)), splits=splits, hooks=hooks);"
        "assert loaded == [set(), set()], loaded;"
        "assert 'torch._dynamo' not in sys.modules"
    )
    environment = {**os.environ, "CIFARLAB_RUNS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_public_names_exist_and_are_all():
    assert sorted(cifarlab.__all__) == sorted(
        [
            "Classifier",
            "Config",
            "ImageSet",
            "Run",
            "__version__",
            "evaluate",
            "load_recipe",
            "predict",
            "report",
            "train",
        ]
    )
    for name in cifarlab.__all__:
        assert getattr(cifarlab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cifarlab.nothing  # noqa: B018
