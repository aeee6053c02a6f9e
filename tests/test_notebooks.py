"""The notebooks: their common skeleton, clean files, and one smoke run of each."""

from __future__ import annotations

import ast
import json
import re
import statistics

import nbformat
import pytest
from notebook_files import (
    CHAPTERS,
    NOTEBOOKS,
    ROOT,
    SOLUTIONS,
    code,
    each,
    each_and_solutions,
    nbval,
    prose,
    read,
    tags,
    texts,
)
from notebook_metrics import complaints

from messi_lib.notebook_runner import parameters_of

MAX_BYTES = 1_000_000
PICTURES = {"image/png", "image/jpeg"}  # what the runner saves
SMOKE_CPU_SECONDS = 120  # one minute on two cores; half of it for the solutions
CHECKED = "nbval-check-output"
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:home|Users|root|work|mnt|tmp|private)/[\w.-]+")


def test_every_chapter_has_its_notebook():
    found = [p.name for p in (ROOT / "notebooks").rglob("*.ipynb") if "checkpoint" not in p.name]
    assert sorted(found) == sorted([*(f"{name}.ipynb" for name in CHAPTERS), SOLUTIONS.name])


# --- skeleton -----------------------------------------------------------------------------------


@each
def test_it_begins_with_a_title_and_what_the_reader_will_learn(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S", first.source), "title: '# NN · Title'"
    text = prose(read(path))
    learn = re.search(r"You will learn.*?\n((?:\s*[-*] .*\n?(?:  .*\n?)*)+)", text)
    assert learn, "'You will learn' with a list under it"
    bullets = re.findall(r"^\s*[-*] ", learn[1], flags=re.MULTILINE)
    assert 3 <= len(bullets) <= 5, f"3 to 5 things to learn, not {len(bullets)}"


@each_and_solutions
def test_it_says_how_long_it_takes_on_what(path):
    rows = [line for line in prose(read(path)).splitlines() if line.lstrip().startswith("|")]
    for profile in ("smoke", "laptop", "gpu"):
        row = [r for r in rows if re.search(rf"\b{profile}\b", r)]
        assert row, f"no table row for the profile {profile}"
    timed = [r for r in rows if re.search(r"\b(smoke|laptop)\b", r) and re.search(r"\d", r)]
    assert len(timed) >= 2, "smoke and laptop need measured times"


def links_of(path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(read(path)))


@each
def test_it_links_to_its_neighbours(path):
    number = NOTEBOOKS.index(path)
    for neighbour in NOTEBOOKS[max(number - 1, 0) : number] + NOTEBOOKS[number + 1 : number + 2]:
        assert neighbour.name in links_of(path), f"no link to {neighbour.name}"


@each_and_solutions
def test_every_link_resolves(path):
    for link in links_of(path):
        target = link.partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"broken link {link}"


@each_and_solutions
def test_it_shows_versions_and_device_before_it_starts(path):
    cells = read(path).cells
    first_section = next(i for i, c in enumerate(cells) if re.match(r"## +\d", c.source))
    setup = "\n".join(c.source for c in cells[:first_section] if c.cell_type == "code")
    assert "device" in setup and "version" in setup


@each_and_solutions
def test_it_has_one_parameters_cell_in_the_agreed_form(path):
    found = parameters_of(read(path), path.stem)
    assert list(found)[:3] == ["profile", "run_name", "seed"]
    assert found["profile"].default is None
    assert found["run_name"].default == path.stem
    assert isinstance(found["seed"].default, int)
    cell = next(c for c in code(read(path)) if "parameters" in tags(c))
    for line in cell.source.splitlines():
        statement = line.partition("#")[0]
        assert statement.count("=") <= 1, f"papermill cannot read {line!r}"


@each_and_solutions
def test_its_sections_are_numbered(path):
    numbers = [int(n) for n in re.findall(r"^## +(\d+)\b", prose(read(path)), flags=re.MULTILINE)]
    first = 0 if path == SOLUTIONS else 1  # its sections are the chapters
    assert len(numbers) >= 2 and numbers == list(range(first, len(numbers) + first)), numbers


@each_and_solutions
def test_its_cells_are_short(path):
    notebook = read(path)
    lengths = [len(c.source.splitlines()) for c in code(notebook)]
    assert max(lengths) <= 25, f"a code cell of {max(lengths)} lines: move logic to the library"
    assert statistics.median(lengths) <= 8
    for cell in code(notebook):
        plain = re.sub(r"^(\s*)[%!].*", r"\1pass", cell.source, flags=re.M)  # without magics
        for node in ast.walk(ast.parse(plain)):
            if isinstance(node, ast.ClassDef):
                assert node.end_lineno - node.lineno < 15, f"class {node.name}: library code?"


@each
def test_the_reader_can_check_and_exercise(path):
    notebook = read(path)
    checks = [c for c in code(notebook) if re.search(r"^\s*assert\b", c.source, flags=re.M)]
    assert len(checks) >= 2, "check cells with assert"
    exercises = set(re.findall(r"\bExercise (?:\d+\.)?(\d)\b", prose(notebook)))
    assert len(exercises) >= 2, "two exercises: 'Exercise 1', 'Exercise 2'"
    headings = re.findall(r"^#+ +(.*)", prose(notebook), flags=re.MULTILINE)
    assert any("summary" in h.lower() for h in headings[-3:]), "a summary at the end"


@each_and_solutions
def test_every_figure_is_followed_by_prose(path):
    cells = read(path).cells
    for index, cell in enumerate(cells):
        pictures = [o for o in cell.get("outputs", []) if PICTURES & set(o.get("data", {}))]
        if pictures:
            after = [c.cell_type for c in cells[index + 1 : index + 3]]
            assert "markdown" in after, f"cell {index + 1}: say what the figure shows"


@each_and_solutions
def test_it_stores_its_numbers(path):
    sources = "\n".join(c.source for c in code(read(path)))
    assert re.search(r"\.metrics\(", sources), "write metrics.json with Run.metrics"


# --- files --------------------------------------------------------------------------------------


@each_and_solutions
def test_the_file_is_clean(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size < MAX_BYTES
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    for number, cell in enumerate(notebook.cells, 1):
        assert set(cell.metadata) <= {"tags", "jupyter", "scrolled", "collapsed"}, f"cell {number}"
        assert not tags(cell) & {"injected-parameters", "papermill-error-cell-tag"}
        skip = {"nbval-skip", "skip-execution"}
        assert tags(cell) & skip in (set(), skip), f"cell {number}: each tool has its own skip tag"
        for output in cell.get("outputs", []):
            kinds = set(output.get("data", {}))
            assert not {k for k in kinds if "svg" in k or "widget" in k}, f"cell {number}: {kinds}"
            assert output.output_type != "error", f"cell {number}: {output.get('evalue')}"


@each_and_solutions
def test_no_path_of_a_machine_is_in_it(path):
    for number, cell in enumerate(read(path).cells, 1):
        shown = [cell.source]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            shown += [str(v) for k, v in data.items() if not k.startswith("image/")]
            shown.append(output.get("text", ""))
        found = MACHINE_PATH.search("\n".join(shown))
        assert found is None, f"cell {number}: {found[0]}"


@each_and_solutions
def test_readers_see_results(path):
    """Outputs are committed (`messi notebooks --profile laptop --save`), figures included."""
    cells = [c for c in code(read(path)) if c.source.strip() and "skip-execution" not in tags(c)]
    unrun = [c.source.splitlines()[0] for c in cells if c.execution_count is None]
    assert not unrun, f"not executed: {unrun[:3]}"
    pictures = [o for c in cells for o in c.outputs if PICTURES & set(o.get("data", {}))]
    assert pictures, "no figure at all"


# --- one run each -------------------------------------------------------------------------------


@each_and_solutions
def test_some_of_its_outputs_are_checked(path):
    """Two to four cells, which print the same in every profile, on every machine."""
    checked = [c for c in code(read(path)) if CHECKED in tags(c)]
    assert 2 <= len(checked) <= 4, f"{len(checked)} cells are tagged {CHECKED}"
    for cell in checked:
        first = cell.source.splitlines()[0]
        assert cell.execution_count and texts(cell), f"nothing to compare with: {first}"


@pytest.mark.slow
@each_and_solutions
def test_smoke_run(path, tmp_path):
    """nbval runs every cell in the smoke profile and compares what tagged cells print.

    The chapter's numbers are there and in their ranges. That papermill runs notebooks too is tested
    on small ones (test_notebook_runner.py) and on chapter 00 (test_repository.py, the demo): the
    same cells need not run twice.
    """
    done, spent = nbval(path, tmp_path)
    assert done.returncode == 0, done.stdout[:6000] + done.stderr[-2000:]  # the first cause first
    metrics = json.loads((tmp_path / path.stem / "metrics.json").read_text())
    assert not complaints(metrics, path.stem, "smoke")
    limit = SMOKE_CPU_SECONDS // (2 if path == SOLUTIONS else 1)
    assert spent < limit, f"{spent:.0f} CPU seconds: make the smoke profile smaller"


def test_a_changed_output_fails_and_says_how(tmp_path):
    """What nbval does with tagged cells whose output is as committed, and is not."""
    small = nbformat.v4.new_notebook()
    small.metadata["kernelspec"] = {"name": "python3", "display_name": "x", "language": "python"}
    for source, committed, tag in (
        ("print('shape', (2, 3))", "shape (2, 3)\n", [CHECKED]),
        ("print('people:', 2 + 2)", "people: 5\n", [CHECKED]),
        ("print('not compared')", "something else\n", []),
    ):
        cell = nbformat.v4.new_code_cell(source, execution_count=1, metadata={"tags": tag})
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=committed)]
        small.cells.append(cell)
    nbformat.write(small, tmp_path / "small.ipynb")
    done, _ = nbval(tmp_path / "small.ipynb", tmp_path)
    assert done.returncode == 1 and "1 failed, 2 passed" in done.stdout, done.stdout
    message = done.stdout[: done.stdout.index("short test summary")]
    for part in ("Cell outputs differ", "print('people:', 2 + 2)", "- people: 4", "+ people: 5"):
        assert part in message, message
