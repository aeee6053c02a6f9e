"""What is in the repository: its size, its language, its environment, its two commands."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from messi_lib import runs
from messi_lib.notebook_runner import demo, read_notebook

ROOT = Path(__file__).resolve().parents[1]
MAX_TOTAL = 64_000_000
MAX_LINES = 350
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|Users|root|work|mnt|opt)/[\w.-]+")


def files() -> list[Path]:
    """Files that are, or would be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout: the tracked files are unknown")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    """Text files of the repository, notebooks left to test_notebooks.py."""
    found = []
    for path in files():
        content = path.read_bytes()
        if path.suffix != ".ipynb" and b"\0" not in content:
            found.append((path, content.decode()))
    return found


def python() -> list[tuple[str, ast.Module]]:
    """Syntax trees of all modules and of the notebooks' code."""
    modules = [(path, text) for path, text in texts() if path.suffix == ".py"]
    found = [(str(path.relative_to(ROOT)), ast.parse(text)) for path, text in modules]
    for path in files():
        if path.suffix == ".ipynb":
            cells = [c.source for c in read_notebook(path).cells if c.cell_type == "code"]
            source = re.sub(r"^(\s*)[%!].*", r"\1pass", "\n".join(cells), flags=re.M)
            found.append((path.name, ast.parse(source)))
    return found


@pytest.fixture(scope="module")
def lock():
    """The module `.ci/lock.py`."""
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".ci" / "lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- files --------------------------------------------------------------------------------------


def test_the_repository_stays_small():
    sizes = {path: path.stat().st_size for path in files()}
    largest = sorted(sizes, key=sizes.get)[-3:]
    assert sum(sizes.values()) < MAX_TOTAL, [str(p.relative_to(ROOT)) for p in largest]
    weights = sum(size for path, size in sizes.items() if path.suffix == ".safetensors")
    assert weights < 48_000_000, "the weights that ship have 48 MB in all"


def test_no_path_of_a_machine_is_in_it():
    for path, text in texts():
        found = MACHINE_PATH.search(text)
        shown = found and text[max(found.start() - 30, 0) : found.end() + 10]
        assert not found or shown.lstrip().startswith("#!"), f"{path.relative_to(ROOT)}: {shown!r}"


def test_no_module_is_longer_than_one_idea():
    for path in (ROOT / "messi_lib").rglob("*.py"):
        count = len(path.read_text().splitlines())
        assert count <= MAX_LINES, f"{path.name} has {count} lines: split it"


def test_nothing_is_left_to_do():
    words = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]
    pattern = re.compile(r"\b(" + "|".join(words) + r")\b")
    for path, text in texts():
        if path.suffix in (".py", ".md", ".js", ".sbatch"):
            found = pattern.search(text)
            assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_weights_are_never_unpickled():
    for name, tree in python():
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "joblib", "dill"} & set(names), f"{name} imports pickle"
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if owner == "torch" and node.func.attr == "load":
                assert given.get("weights_only") == "True", f"{name}:{node.lineno}: torch.load"
            if owner in ("np", "numpy") and node.func.attr == "load":
                assert given.get("allow_pickle", "False") == "False", f"{name}:{node.lineno}"


def test_the_shipped_samples_and_weights_say_what_they_are():
    for folder in ("samples", "weights"):
        assert any((ROOT / "data" / folder).glob("*.md")), f"data/{folder} needs a README or card"


# --- environment --------------------------------------------------------------------------------


def test_the_three_files_of_the_environment_are_in_step(lock):
    assert lock.problems(ROOT) == []


def test_the_comparison_notices_a_changed_pin(lock, tmp_path):
    for name in ("pyproject.toml", "requirements.txt", "environment.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(text.replace("torch==2.13.0", "torch==2.12.0"))
    assert lock.problems(tmp_path) == ["environment.yml differs from requirements.txt"]
    (tmp_path / "requirements.txt").write_text(re.sub(r"(?m)^einops==.*\n", "", text))
    assert "requirements.txt lacks einops" in lock.problems(tmp_path)
    silent = (ROOT / "pyproject.toml").read_text().replace("# all: progress", "")
    with pytest.raises(ValueError, match="tqdm"):
        lock.direct_dependencies(silent)


def test_the_conda_environment_has_one_pip_block_with_the_same_pins(lock):
    made = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert made["channels"] == ["conda-forge", "nodefaults"]
    *conda, block = made["dependencies"]
    assert conda == ["python=3.11", "pip"] and list(block) == ["pip"]
    requirements = (ROOT / "requirements.txt").read_text()
    pinned = [pin for text in lock.pins(requirements).values() for pin in text.splitlines()]
    assert block["pip"] == pinned and len(pinned) > 100


def test_the_requirements_name_no_index_and_no_machine():
    for name in ("requirements.txt", "environment.yml"):
        text = (ROOT / name).read_text()
        assert "://" not in text and "--index" not in text and "--find-links" not in text


def test_torch_and_torchvision_are_pinned_as_a_pair(lock):
    pinned = lock.pins((ROOT / "requirements.txt").read_text())
    minor = int(re.match(r"torch==2\.(\d+)\.", pinned["torch"])[1])
    assert pinned["torchvision"].startswith(f"torchvision==0.{minor + 15}.")


# --- commands -----------------------------------------------------------------------------------


def make(*arguments: str) -> str:
    """What `make -n` would do."""
    if shutil.which("make") is None:
        pytest.skip("make is absent")
    command = ["make", "-n", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_remakes_the_environment_only_when_the_requirements_change(tmp_path):
    venv = tmp_path / "venv"
    venv.mkdir()
    variables = [f"VENV={venv}", "TORCH="]
    assert ".ci/env.sh" in make("demo", *variables), "no environment yet"
    (venv / ".stamp").write_text("")
    assert ".ci/env.sh" not in make("demo", *variables), "it is there"
    assert ".ci/env.sh" in make("demo", "-W", "requirements.txt", *variables)
    assert ".ci/env.sh" in make("demo", f"VENV={venv}", "TORCH=cpu"), "another build of torch"
    (venv / ".torch").write_text("cpu\n")
    shown = make("test", f"VENV={venv}")
    assert ".ci/env.sh" not in shown, "the build is remembered"
    assert "MESSI_PROFILE=smoke" in shown and "-m pytest" in shown


def test_help_names_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    for target in ("env", "demo", "playground", "test", "lint", "notebooks", "lock", "clean"):
        assert f"make {target} " in shown
    assert "make bench " in shown and "make docs " in shown


def test_ci_calls_the_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
    for script in ("run", "env.sh"):
        assert (ROOT / ".ci" / script).stat().st_mode & 0o100, f".ci/{script} must be executable"
        subprocess.run(["bash", "-n", ROOT / ".ci" / script], check=True)


def test_a_missing_python_is_told_in_one_line(tmp_path):
    """The script sees only the tools that it needs, and no Python of a supported version."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat", "rm", "env"):
        (tools / tool).symlink_to(shutil.which(tool))
    command = [tools / "bash", ROOT / ".ci" / "env.sh", tmp_path / "venv"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tools)})
    assert done.returncode != 0
    assert done.stderr == (
        "env: no Python 3.11 to 3.14 found: install one, or say make env PYTHON=/path/to/python\n"
    )
    assert not (tmp_path / "venv").exists()


@pytest.mark.slow
def test_demo(tmp_path, monkeypatch, capsys):
    """`make demo` in the smallest profile: papermill on chapter 00, and what it leaves."""
    monkeypatch.setenv("MESSI_RUNS", str(tmp_path))
    assert demo(profile="smoke") == 0, capsys.readouterr()
    folder = runs.runs_dir() / "demo"
    before, after = (sorted(folder.glob(f"{kind}_*.png")) for kind in ("before", "after"))
    assert before and len(before) == len(after)
    assert (folder / "metrics.json").stat().st_size > 2
    report = (folder / "report.html").read_text()
    assert report.count("data:image/png;base64") >= 2, "a report with pictures"
    assert str(folder) in capsys.readouterr().out
