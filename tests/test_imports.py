"""The design's import rules, read from the code itself: imports only go down."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import messi_lib

PACKAGE = Path(messi_lib.__file__).parent

# From the ground up. A room may import rooms of lower layers, and itself; never its neighbours.
LAYERS = [
    {"presets"},
    {"profiles"},
    {"runs"},
    {"native"},
    {"photos"},
    {"images"},
    {"data", "training", "evaluation", "notebook_runner", "outputs"},
    {"segmentation", "consistency"},
    {"fusion", "inpainting"},
    {"replace"},
    {"playground"},
    {"doctor"},
    {"commands"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}


def modules() -> dict[str, Path]:
    """`data.pitch` -> its file, for every module of the library."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path) -> set[str]:
    """Rooms that a module imports, wherever in its code: also inside functions."""
    package = ["messi_lib", *(name.split(".") if name else [])]
    if path.name != "__init__.py":
        package = package[:-1]
    targets = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *filter(None, [node.module])])
            # `from .. import runs` names a room; `from ..runs import root` names its content
            targets |= {f"{stem}.{alias.name}" if stem == "messi_lib" else stem
                        for alias in node.names}  # fmt: skip
    return {t.split(".")[1] for t in targets if t.startswith("messi_lib.")}


def violations(name: str, rooms: set[str]) -> set[str]:
    """Those of `rooms` that the module `name` must not import."""
    own = name.split(".")[0]
    return {room for room in rooms if room != own and RANK[room] >= RANK[own]}


def test_every_room_has_its_place():
    rooms = {name.split(".")[0] for name in modules() if name}
    assert rooms - RANK.keys() == set(), "give the new room a layer"
    assert RANK.keys() - rooms == set(), "these rooms are gone"


@pytest.mark.parametrize("name", sorted(name for name in modules() if name))
def test_imports_go_down(name):
    found = violations(name, imported(name, modules()[name]))
    assert not found, f"{name} imports {sorted(found)}, which is not below it"


def test_the_rules_would_find_a_violation(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(
        "from .. import images, runs\nfrom ..consistency.unet import UNet\n"
        "import messi_lib.cli\ndef late():\n    from messi_lib import fusion\n"
    )
    rooms = imported("segmentation.model", path)
    assert rooms == {"images", "runs", "consistency", "cli", "fusion"}
    assert violations("segmentation.model", rooms) == {"consistency", "cli", "fusion"}


def test_the_package_itself_imports_nothing():
    assert imported("", PACKAGE / "__init__.py") == set()


def test_every_module_can_be_imported():
    for module in pkgutil.walk_packages([str(PACKAGE)], "messi_lib."):
        importlib.import_module(module.name)


@pytest.mark.parametrize("module", ["profiles", "cli", "commands"])
def test_light_modules_do_not_load_torch(module):
    program = f"import sys, messi_lib.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
