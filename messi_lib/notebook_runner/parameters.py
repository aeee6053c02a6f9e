"""Which notebooks there are, what parameters they take, and what the user set.

papermill finds parameters with a regular expression, misses lines with two `=`, and only warns of
a name that does not exist, so that a typo trains the wrong thing. Here the parameters cell is read
from its syntax tree, and an unknown name or a value of another type is an error before the start.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..profiles import unknown
from ..runs import root

_SCALARS = {"int": int, "float": float, "str": str, "bool": bool, "None": type(None)}


@dataclass(frozen=True)
class Parameter:
    """One name of a parameters cell: its default and the JSON types that it takes."""

    default: Any
    types: tuple[type, ...]  # empty: any

    def accepts(self, value: Any) -> bool:
        """Whether `value` has one of the types; whole numbers count as float, booleans do not."""
        if not self.types:
            return True
        if isinstance(value, int) and not isinstance(value, bool) and float in self.types:
            return True
        return type(value) in self.types


def notebooks_dir() -> Path:
    """Folder of the notebooks; also the kernel's working directory, as in JupyterLab and nbval."""
    return root() / "notebooks"


def find_notebooks(names: list[str] | tuple[str, ...] = ()) -> list[Path]:
    """The notebooks called `names` (`02`, `02_segmentation`, `solutions` or a path), or all.

    All are the numbered chapters and the solutions of their exercises; what else a reader keeps in
    the folder is run by its path only.

    Raises:
        ValueError: a name that fits none, or more than one.
    """
    suite = sorted(notebooks_dir().glob("[0-9][0-9]_*.ipynb"))
    suite += notebooks_dir().glob("solutions.ipynb")
    if not names:
        if not suite:
            raise ValueError(f"no notebooks in {notebooks_dir()}: is this the repository?")
        return suite
    found = []
    for name in names:
        if name.endswith(".ipynb") and Path(name).is_file():
            found.append(Path(name).resolve())
            continue
        stem = Path(name).name.removesuffix(".ipynb")
        fits = [p for p in suite if p.stem == stem] or [
            p for p in suite if stem and p.stem.startswith(stem)
        ]
        if len(fits) != 1:
            raise unknown("notebook", name, [p.stem for p in suite])
        found.append(fits[0])
    return found


def read_notebook(path: Path) -> Any:
    """The notebook in `path`, upgraded to format 4.

    Raises:
        ValueError: a file that is no notebook.
    """
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: which notebook did you mean?") from None
    except Exception as error:  # nbformat raises several kinds, all meaning the same
        raise ValueError(f"{path} is no notebook ({error})") from error


def parameters_of(notebook: Any, name: str = "notebook") -> dict[str, Parameter]:
    """Names in the one cell tagged `parameters`, read from its syntax tree (nothing is run).

    The type of a parameter is its annotation's (`steps: int | None = None`) or its default's; a
    plain `None` takes any JSON value.

    Raises:
        ValueError: no such cell, several, or a line that is no plain assignment of a constant.
    """
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{name}: {len(tagged)} cells are tagged 'parameters', expected exactly 1")
    found = {}
    for node in ast.parse(tagged[0].source).body:
        annotated = isinstance(node, ast.AnnAssign)
        target = node.target if annotated else getattr(node, "targets", [None])[0]
        try:
            default = ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            target = None
        if not isinstance(target, ast.Name):
            raise ValueError(
                f"{name}: {ast.unparse(node)!r} in the parameters cell is no `name = constant`"
            )
        types: tuple[type, ...] = () if default is None else (type(default),)
        if annotated:
            parts = re.split(r"\s*\|\s*", ast.unparse(node.annotation).strip("'\""))
            if all(part in _SCALARS for part in parts):
                types = tuple(_SCALARS[part] for part in parts)
        found[target.id] = Parameter(default, types)
    return found


def fingerprint(notebook: Any) -> str:
    """Hash of what a notebook says and does: kinds, tags and sources of its cells, no outputs."""
    cells = [(c.cell_type, c.metadata.get("tags", []), c.source) for c in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def parse_settings(settings: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """`["steps=10", "name=true", "kit=pink"]` as JSON values; what is no JSON is a string.

    Raises:
        ValueError: no `=`, a name that is none, or a name given twice.
    """

    def reject(text: str) -> None:  # NaN and Infinity are no JSON
        raise ValueError(text)

    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"--set {setting!r}: write name=value, for instance --set steps=10")
        if name in values:
            raise ValueError(f"--set {name} is given twice: leave one out")
        try:
            values[name] = json.loads(text, parse_constant=reject)
        except ValueError:
            values[name] = text
    return values


def check_parameters(notebook: Any, values: dict[str, Any], name: str = "notebook") -> None:
    """Reject what papermill would only warn about.

    Raises:
        ValueError: a name that the parameters cell does not have, or a value of another type.
    """
    known = parameters_of(notebook, name)
    for key, value in values.items():
        if key not in known:
            raise unknown(f"parameter of {name}", key, sorted(known))
        if not known[key].accepts(value):
            wanted = " or ".join(t.__name__ for t in known[key].types)
            kind = type(value).__name__
            raise ValueError(f"{name}: {key}={value!r} is {kind}, expected {wanted}")
