"""The API reference (`make docs`), the docstrings it is made of, and the README's map of papers."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import warnings
from pathlib import Path

import pytest
from pdoc import doc
from test_repository import ROOT, make

LIBRARY = ROOT / "messi_lib"
PLACE = re.compile(
    r"\b(eq\.|section|algorithm|table|appendix)s? ([A-Z\d][.\d]*(?:(?: and | to )\d[.\d]*)*)",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def docs():
    """The module `.ci/docs.py`."""
    spec = importlib.util.spec_from_file_location("docs", ROOT / ".ci" / "docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(docs):
    """What the reference shows, by module."""
    return docs.modules()


# --- docstrings ---------------------------------------------------------------------------------


def silent(namespace: doc.Namespace) -> list[str]:
    """Public functions, classes and methods of the library that say nothing."""
    found = []
    for member in namespace.own_members:
        if member.name.startswith("_") or isinstance(member, doc.Variable):
            continue
        if not member.docstring:
            found.append(member.fullname)
        if isinstance(member, doc.Class):
            found += silent(member)
    return found


def test_everything_public_says_what_it_is(modules):
    assert {name: silent(module) for name, module in modules.items() if silent(module)} == {}
    assert [name for name, module in modules.items() if not module.docstring] == []


def test_a_function_without_a_docstring_would_be_found(docs, tmp_path, monkeypatch):
    """Another library's text about `forward` is no docstring either."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "messi_lib_toy.py").write_text(
        "from torch import nn\n\n\ndef mute():\n    pass\n\n\nclass Layer(nn.Module):\n"
        '    """A layer."""\n\n    def forward(self, x):\n        return x\n'
        '    def told(self):\n        """It says so."""\n'
    )
    monkeypatch.setattr(docs, "ours", lambda cls: cls.__module__ == "messi_lib_toy")
    module = doc.Module.from_name("messi_lib_toy")
    docs.explain(module.get("Layer"), (tmp_path / "messi_lib_toy.py").read_text())
    assert silent(module) == ["messi_lib_toy.mute", "messi_lib_toy.Layer.forward"]


def test_comments_explain_fields_and_constants(docs):
    source = (
        "# --- a ruler ---\nA = 1\n# of two\n# lines\nB: int = 2\nC = 3  # behind\n"
        "D = (\n    4,\n)  # fmt: skip\nE = 5  # '#' is no end\n"
        "class K:\n    f: int  # no constant\n"
    )
    assert docs.comments(source) == {
        "A": "", "B": "of two lines", "C": "behind", "D": "", "E": "'#' is no end"
    }  # fmt: skip
    assert docs.comments(source[source.index("class") :]) == {"f": "no constant"}


def test_every_option_is_explained(modules):
    """The help shows the same comments; one that stands above a field also serves the next."""
    explained = {}
    for name in ("messi_lib.profiles", "messi_lib.commands"):
        for described in (m for m in modules[name].own_members if isinstance(m, doc.Class)):
            fields = described.obj.__annotations__
            for field in [f for f in fields if "Suppress" not in fields[f]]:
                explained[f"{described.name}.{field}"] = described.get(field).docstring
    assert explained["TrainConfig.batch"] == "images per step" and len(explained) > 150
    assert [name for name, text in explained.items() if not text] == []


def test_fields_of_tuples_are_no_aliases(modules):
    nearest = modules["messi_lib.evaluation.memorisation"].get("Nearest")
    assert "Alias for field" not in "".join(member.docstring for member in nearest.own_members)


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_reference_has_a_page_for_every_module(docs, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        written = docs.build(tmp_path, source=False)  # half as long as with the code
    assert [str(w.message) for w in caught if issubclass(w.category, UserWarning)] == []

    parts = [path.relative_to(ROOT).with_suffix("").parts for path in LIBRARY.rglob("*.py")]
    names = ["/".join(p[:-1] if p[-1] == "__init__" else p) for p in parts]
    expected = {f"{name}.html" for name in names if "/_" not in name}
    assert {str(path.relative_to(tmp_path)) for path in written} == expected
    assert "messi_lib.html" in (tmp_path / "index.html").read_text()

    home = (tmp_path / "messi_lib.html").read_text()
    for room in ("consistency", "segmentation", "replace"):
        assert f'<a href="messi_lib/{room}.html">' in home
        assert (tmp_path / f"messi_lib/{room}.html").is_file()
    page = (tmp_path / "messi_lib/inpainting/holes.html").read_text()
    assert re.search(r"<h6[^>]*>Raises:</h6>\s*<ul>\s*<li><strong>ValueError:</strong>", page)
    assert 'id="make_holes"' in page and 'id="_' not in page


def test_make_docs_writes_into_a_folder_that_git_ignores_and_clean_deletes(tmp_path):
    (tmp_path / ".stamp").write_text("")
    shown = make("docs", f"VENV={tmp_path}", "TORCH=")
    assert ".ci/docs.py build/docs" in shown
    assert "rm -rf build " in make("clean")
    if (ROOT / ".git").exists():
        subprocess.run(["git", "check-ignore", "-q", "build/docs/x"], cwd=ROOT, check=True)


# --- papers -------------------------------------------------------------------------------------


def papers() -> list[list[str]]:
    """Rows of the table in the README: idea, paper, notebook, code, test."""
    text = (ROOT / "README.md").read_text()
    section = text.split("## Reading the house", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    assert rows[0] == ["idea", "paper", "notebook", "code", "test"]
    return rows[1:]


def docstrings(path: Path) -> str:
    """All docstrings of a module as one line."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return " ".join(" ".join((ast.get_docstring(node) or "").split()) for node in nodes)


def places(text: str) -> set[tuple[str, str]]:
    """(kind, number) of the equations, sections and algorithms that a text names."""
    return {
        (found[1].lower(), number.strip("."))
        for found in PLACE.finditer(text)
        for number in re.split(r" and | to ", found[2])
    }


def test_places_are_read_out_of_a_sentence():
    said = "eq. 7 and 10 (Section 3.1, algorithms 2 to 3). Appendix F.2, 40 equations"
    assert places(said) == {
        ("eq.", "7"), ("eq.", "10"), ("section", "3.1"), ("algorithm", "2"), ("algorithm", "3"),
        ("appendix", "F.2"),
    }  # fmt: skip


def test_the_map_of_papers_has_a_row_for_each_idea():
    ideas = [row[0] for row in papers()]
    assert len(ideas) == len(set(ideas)) >= 30
    rooms = {row[3].split("messi_lib/")[1].split("/")[0] for row in papers()}
    assert rooms == {
        "consistency", "data", "evaluation", "fusion", "inpainting", "segmentation", "training"
    }  # fmt: skip


@pytest.mark.parametrize("row", papers(), ids=lambda row: row[0])
def test_what_the_map_names_exists_and_names_its_paper(row):
    _, paper, notebook, code, test = row
    linked = [re.search(r"\]\(([^)]+)\)", cell) for cell in (notebook, code, test)]
    assert linked[1] and linked[2] and (linked[0] or notebook == "-")
    for link in filter(None, linked):
        assert (ROOT / link[1]).is_file(), link[1]

    module, tests = ROOT / linked[1][1], (ROOT / linked[2][1]).read_text()
    used = re.search(rf"\.{module.stem} import|import .*\b{module.stem}\b", tests)
    assert used, f"{linked[2][1]} does not test {module.name}"
    said = docstrings(module)
    for name, rest in re.findall(r"([A-Z]\w+)(?: et al\.| and \w+)? (\d{4}(?:, \[[\d.]+)?)", paper):
        year, _, arxiv = rest.partition(", [")
        assert re.search(rf"\b{name}\b", said), f"{module.name} does not name {name}"
        assert year in said or (arxiv and arxiv in said), f"{module.name}: {name} of when?"
    assert places(paper) <= places(said), f"{module.name}: {places(paper) - places(said)}"
