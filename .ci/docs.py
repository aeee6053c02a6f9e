"""The API reference, from the docstrings: `python .ci/docs.py FOLDER` (`make docs`).

`pdoc` does the work. What it cannot know is added here: fields and constants are explained by the
comment behind them (as in `messi --help`), a package lists its modules, and every module gets a
page, also those of packages that say what they export.
"""

from __future__ import annotations

import ast
import inspect
import io
import pkgutil
import re
import sys
import tokenize
import typing
from itertools import takewhile
from pathlib import Path

import jinja2
from pdoc import doc, render

import messi_lib

STYLE = """
nav.pdoc h2 { font-size: 1.4rem; }
.pdoc.pdoc table :is(td, th) { padding: 0.2rem 0.6rem; }
"""
_NO_TEXT = re.compile(r"fmt:|noqa|type:|---")  # for tools, or a ruler between parts


def module_names() -> list[str]:
    """All modules of the library but those whose name begins with `_`."""
    found = pkgutil.walk_packages(messi_lib.__path__, "messi_lib.")
    names = ["messi_lib", *(module.name for module in found)]
    return [name for name in names if "._" not in name]


def comments(source: str) -> dict[str, str]:
    """`name -> comment` for the fields of a class, or the constants of a module.

    A comment stands behind its name or on the lines above.

    >>> comments("class A:\\n    # of what\\n    x: int = 3\\n    y: int = 4  # so many")
    {'x': 'of what', 'y': 'so many'}
    """
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token for token in tokens if token.type == tokenize.COMMENT]
    texts = {token.start[0]: token.string.lstrip("# ") for token in found}
    texts = {row: text for row, text in texts.items() if not _NO_TEXT.match(text)}
    alone = {token.start[0] for token in found if not token.line[: token.start[1]].strip()}

    tree = ast.parse(source)
    whole = tree.body[0] if isinstance(tree.body[0], ast.ClassDef) else tree
    explained = {}
    for node in whole.body:
        match node:
            case ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]):
                above = range(node.lineno - 1, 0, -1)
                rows = list(takewhile(lambda row: row in alone and row in texts, above))[::-1]
                if node.end_lineno in texts:
                    rows = [node.end_lineno]
                explained[name] = " ".join(texts[row] for row in rows)
    return explained


def ours(cls: type) -> bool:
    """Whether a class is the library's own."""
    return cls.__module__.split(".")[0] == "messi_lib"


def documented(cls: type, method: str) -> bool:
    """Whether the library says what a method does: in the class, or in one that it is made from."""
    return any(getattr(c.__dict__.get(method), "__doc__", None) for c in cls.__mro__ if ours(c))


def explain(described: doc.Namespace, source: str) -> None:
    """Give fields and constants their comments as docstrings, and no method another library's."""
    is_class = isinstance(described, doc.Class)
    named_tuple = hasattr(described.obj, "_fields")
    found = comments(source)
    for member in described.own_members:
        if named_tuple and member.name == "__init__":
            member.docstring = ""  # "Create new instance of"
        elif isinstance(member, doc.Variable):
            if named_tuple or not member.docstring:
                member.docstring = found.get(member.name, "")  # not "Alias for field number 0"
        elif is_class and not documented(described.obj, member.name):
            member.docstring = ""


def resolve_named_tuple(cls: type) -> None:
    """A NamedTuple's constructor has a module of its own, in which its types are unknown names."""
    cls.__new__.__annotations__ = typing.get_type_hints(cls)


def contents(package: str, found: dict[str, doc.Module]) -> str:
    """A table of a package's modules, each with the first sentence of its docstring."""
    rows = []
    for name, module in found.items():
        if name.rpartition(".")[0] == package:
            first = " ".join(module.docstring.split("\n\n")[0].split())
            link = f"{package.rpartition('.')[2]}/{name.rpartition('.')[2]}.html"
            rows.append(f"| [{name.rpartition('.')[2]}]({link}) | {first.replace('|', '&#124;')} |")
    return "\n".join(["", "", "| module | what it holds |", "|---|---|", *rows]) if rows else ""


def modules() -> dict[str, doc.Module]:
    """What `pdoc` knows of every module, with what it cannot know added."""
    found = {name: doc.Module.from_name(name) for name in module_names()}
    tables = {name: contents(name, found) for name in found}
    for name, module in found.items():
        module.docstring += tables[name]
        explain(module, inspect.getsource(module.obj))
        for member in module.own_members:
            if isinstance(member, doc.Class) and ours(member.obj):
                if hasattr(member.obj, "_fields"):
                    resolve_named_tuple(member.obj)
                explain(member, inspect.cleandoc("\n" + inspect.getsource(member.obj)))
    return found


def build(folder: Path, source: bool = True) -> list[Path]:
    """Write the pages, with the code behind them if `source`; returns their paths."""
    render.configure(
        docformat="google",
        show_source=source,
        footer_text=f"Messi-Anything {messi_lib.__version__}",
    )
    render.env.loader = jinja2.ChoiceLoader(
        [jinja2.DictLoader({"custom.css": STYLE}), render.env.loader]
    )
    found = modules()
    pages = {f"{name.replace('.', '/')}.html": module for name, module in found.items()}
    for name, module in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(render.html_module(module, found))
    (folder / "index.html").write_text(render.html_index(found))
    (folder / "search.js").write_text(render.search_index(found))
    return [folder / name for name in pages]


if __name__ == "__main__":
    written = build(Path(sys.argv[1]))
    print(f"{len(written)} pages: {Path(sys.argv[1]) / 'index.html'}")
