"""Pin the environment: `pyproject.toml` -> `requirements.txt` -> `environment.yml`.

`make lock` runs this with network access; `python .ci/lock.py --check` only compares the three
files (the tests do that too). The requirements come from `uv pip compile --universal`: one file for
every platform and Python version, no index addresses in it. Direct dependencies keep the comment
that says which chapter uses them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
COMMAND = "make lock"

_DEPENDENCY = re.compile(r'^\s*"(?P<spec>[^"]+)",?\s*#\s*(?P<comment>.+?)\s*$')
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#]+)(?P<marker>\s*;[^#]*)?")


def canonical(name: str) -> str:
    """Package name as the index spells it: lower case, runs of `-_.` as one `-`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def direct_dependencies(pyproject: str) -> dict[str, str]:
    """Names of the direct dependencies (extras included) and the comment on each one's line.

    Raises:
        ValueError: a dependency whose line does not say which chapter uses it.
    """
    project = tomllib.loads(pyproject)["project"]
    specs = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        specs += extra
    comments = {
        match["spec"]: match["comment"]
        for line in pyproject.splitlines()
        if (match := _DEPENDENCY.match(line))
    }
    silent = [spec for spec in specs if spec not in comments]
    if silent:
        raise ValueError(f"pyproject.toml: say which chapter uses {', '.join(silent)} (# comment)")
    return {canonical(re.split(r"[\s<>=!~;\[]", spec)[0]): comments[spec] for spec in specs}


def pins(requirements: str) -> dict[str, str]:
    """`name -> pin` (`name==version`, with its marker if any) of a compiled requirements file.

    A package pinned twice for different platforms has both pins, one a line.
    """
    found: dict[str, list[str]] = {}
    for line in requirements.splitlines():
        if match := _PIN.match(line):
            found.setdefault(canonical(match["name"]), []).append(match[0].strip())
    return {name: "\n".join(lines) for name, lines in found.items()}


def annotate(requirements: str, comments: dict[str, str]) -> str:
    """Write each direct dependency's chapters behind its pin."""
    lines = []
    for line in requirements.splitlines():
        match = _PIN.match(line)
        if match and (comment := comments.get(canonical(match["name"]))):
            line = f"{match[0].strip()}  # {comment}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def environment(requirements: str, comments: dict[str, str]) -> str:
    """`environment.yml`: conda-forge Python and pip, everything else pinned in one pip block."""
    lines = [
        f"# Made by `{COMMAND}` from requirements.txt and pyproject.toml: do not edit by hand.",
        "#   conda env create -f environment.yml && conda activate messi",
        "#   pip install --no-deps -e .",
        "# All packages come from PyPI: torch and torchvision must be built for each other, and a",
        "# CPU torch beside a CUDA torchvision cannot be imported.",
        "name: messi",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={PYTHON}",
        "  - pip",
        "  - pip:",
    ]
    for name, pin in pins(requirements).items():
        for one in pin.splitlines():
            comment = f"  # {comments[name]}" if name in comments else ""
            lines.append(f"      - {one}{comment}")
    return "\n".join(lines) + "\n"


def problems(root: Path = ROOT) -> list[str]:
    """What is out of step between the three files; an empty list when nothing is."""
    pyproject = (root / "pyproject.toml").read_text()
    requirements = (root / "requirements.txt").read_text()
    comments = direct_dependencies(pyproject)
    pinned = pins(requirements)
    found = [f"requirements.txt lacks {name}" for name in comments if name not in pinned]
    if annotate(requirements, comments) != requirements:
        found.append("requirements.txt: chapter comments differ from pyproject.toml")
    if environment(requirements, comments) != (root / "environment.yml").read_text():
        found.append("environment.yml differs from requirements.txt")
    return found


def main(arguments: list[str]) -> int:
    """`--check` compares, `--upgrade` takes newest versions; else pins move only if they must."""
    if "--check" in arguments:
        found = problems()
        for problem in found:
            print(f"{problem}: run `{COMMAND}`", file=sys.stderr)
        return 1 if found else 0
    command = ["uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal"]
    command += ["--python-version", PYTHON, "--custom-compile-command", COMMAND]
    command += ["--no-emit-index-url", "--quiet", "--output-file", "requirements.txt", *arguments]
    subprocess.run(command, cwd=ROOT, check=True)
    comments = direct_dependencies((ROOT / "pyproject.toml").read_text())
    requirements = annotate((ROOT / "requirements.txt").read_text(), comments)
    (ROOT / "requirements.txt").write_text(requirements)
    (ROOT / "environment.yml").write_text(environment(requirements, comments))
    print(f"requirements.txt and environment.yml: {len(pins(requirements))} packages pinned")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
