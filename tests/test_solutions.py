"""Every exercise of every chapter has a solution that its own check accepts.

That the solutions run, and that these checks pass with them, is the smoke run of
`solutions.ipynb` (test_notebooks.py). Here: nothing is missing, and the checks are the chapters'.
"""

from __future__ import annotations

import ast
import re
import textwrap

from notebook_files import NOTEBOOKS, SOLUTIONS, code, each, prose, read

OPEN = re.compile(r"None  # your answer$", flags=re.MULTILINE)


def top_level(source: str) -> list[ast.stmt]:
    """Statements of a cell, magics left out."""
    return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.MULTILINE)).body


def bound(statement: ast.stmt) -> set[str]:
    """Names that a statement assigns or defines."""
    if isinstance(statement, ast.FunctionDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return {
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    }


def questions(path) -> list[str]:
    """Names that the reader of a chapter has to give a value, in the order of the exercises."""
    found = []
    for cell in code(read(path)):
        for statement in top_level(cell.source):
            lines = cell.source.splitlines()[statement.lineno - 1 : statement.end_lineno]
            if OPEN.search("\n".join(lines)):
                found += sorted(bound(statement))
    return found


def checks(path) -> list[str]:
    """The assertions about the answers of a chapter, in a form without layout."""
    names, found = set(questions(path)), []
    cells = code(read(path))
    first = next(i for i, c in enumerate(cells) if OPEN.search(c.source))
    for cell in cells[first:]:
        for statement in top_level(cell.source):
            used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if not used & names:
                continue
            names |= bound(statement)  # what is made of an answer, such as fingerprints of photos
            if isinstance(statement, ast.If):
                asserts = [n for n in ast.walk(statement) if isinstance(n, ast.Assert)]
                found += [ast.unparse(node) for node in asserts]
    return found


def section(path) -> tuple[str, list[str]]:
    """Prose and code cells of the solutions' section about one chapter."""
    number, text, cells, inside = path.stem[:2], [], [], False
    for cell in read(SOLUTIONS).cells:
        heading = re.search(r"^## +(\S+)", cell.source, flags=re.MULTILINE)
        if cell.cell_type == "markdown":
            before, _, after = (
                cell.source.partition(heading[0]) if heading else (cell.source, "", "")
            )
            text += [before] if inside else []
            if heading:
                inside = heading[1] == number
                text += [after] if inside else []
        elif inside:
            cells.append(cell.source)
    return "\n\n".join(text), cells


@each
def test_every_exercise_is_solved(path):
    text, cells = section(path)
    exercises = re.findall(r"\*\*Exercise (\d)", prose(read(path)))
    asked = questions(path)
    assert exercises == [str(n) for n in range(1, len(asked) + 1)], "one answer per exercise"
    numbered = re.findall(r"\*\*Exercise (\d\d\.\d)\.\*\* \S", text)
    assert numbered == [f"{path.stem[:2]}.{n}" for n in exercises], "number and question of each"
    solved = [name for cell in cells for s in top_level(cell) for name in sorted(bound(s))]
    order = [solved.index(name) for name in asked if name in solved]
    assert len(order) == len(asked), f"not solved: {set(asked) - set(solved)}"
    assert order == sorted(order), "in the order of the exercises"


@each
def test_the_solutions_pass_the_chapters_own_checks(path):
    """Each assertion stands in the solutions' section word for word; layout does not matter."""
    _, cells = section(path)
    there = {
        ast.unparse(node)
        for cell in cells
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Assert)
    }
    assert not [check for check in checks(path) if check not in there]


@each
def test_the_chapter_links_to_the_solutions(path):
    """Beside its exercises, so that nobody has to look for them."""
    cells = read(path).cells
    linking = [i for i, c in enumerate(cells) if "](solutions.ipynb)" in c.source]
    first = next(i for i, c in enumerate(cells) if "**Exercise 1" in c.source)
    assert first in linking or first - 1 in linking, "link to solutions.ipynb at Exercise 1"


@each
def test_solutions_in_a_chapter_are_those_of_the_notebook(path):
    """A chapter that unfolds a solution shows the code that is run in `solutions.ipynb`."""
    _, cells = section(path)
    run = {ast.unparse(statement) for cell in cells for statement in top_level(cell)}
    folds = re.findall(r"<details>.*?</details>", prose(read(path)), flags=re.DOTALL)
    for block in re.findall(r"```python\n(.*?)```", "".join(folds), flags=re.DOTALL):
        for statement in top_level(textwrap.dedent(block)):
            if isinstance(statement, ast.FunctionDef):
                assert ast.unparse(statement) in run, f"another solution than `{statement.name}`"


def test_no_question_is_left_open_or_overlooked():
    assert not [c.source for c in code(read(SOLUTIONS)) if OPEN.search(c.source)]
    for path in NOTEBOOKS:
        for cell in code(read(path)):
            if re.search(r"None\s*# *your (?!own)", cell.source):
                assert OPEN.search(cell.source), f"{path.name}: write `None  # your answer`"


@each
def test_the_answers_of_a_chapter_are_checked(path):
    assert len(checks(path)) >= len(questions(path)), "an exercise without an assertion"
