"""`messi`: picks the command, reads its options with `tyro`, and turns errors into one line.

Exit status: 0 done, 1 a notebook failed or photos are missing, 2 bad input (one line on standard
error says what and what to do), 130 after Ctrl-C. `MESSI_DEBUG=1` shows the traceback of an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version

from . import commands
from .profiles import PROFILES, ReplaceConfig, TrainConfig, current_profile, preset, unknown

COMMANDS: dict[str, type] = {
    "demo": commands.Demo,
    "replace": commands.Replace,
    "playground": commands.Playground,
    "notebooks": commands.Notebooks,
    "budget": commands.BudgetPlan,
    "train segmentation": commands.TrainSegmentation,
    "train consistency": commands.TrainConsistency,
    "train layer": commands.TrainLayer,
    "train inpainter": commands.TrainInpainter,
    "export segmentation": commands.ExportSegmentation,
    "export consistency": commands.ExportConsistency,
    "sample": commands.Sample,
    "data people": commands.DataPeople,
    "data pitch": commands.DataPitch,
    "data subject": commands.DataSubject,
    "evaluate generator": commands.EvaluateGenerator,
    "evaluate fid": commands.EvaluateFid,
    "evaluate segmentation": commands.EvaluateSegmentation,
    "evaluate fetch-weights": commands.FetchWeights,
    "evaluate check-weights": commands.CheckWeights,
    "study fusion": commands.StudyFusion,
    "doctor": commands.Doctor,
}
GROUPS = {name.split()[0] for name in COMMANDS if " " in name}

_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "choose another place, or change its permissions",
    errno.EPERM: "choose another place, or change its permissions",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.ENOTDIR: "a file is in the way of a folder",
    errno.EEXIST: "choose another name",
    errno.EISDIR: "give a file, not a folder",
}


def overview(group: str = "") -> str:
    """What `messi --help` (or `messi GROUP --help`) prints."""
    lines = [
        "Put your subject into any photo, and learn how every step works.",
        "",
        "usage: messi COMMAND [OPTIONS]      messi COMMAND --help shows its options",
        "",
    ]
    if group:
        lines = [f"usage: messi {group} COMMAND [OPTIONS]", ""]
    for name, command in COMMANDS.items():
        if not group or name.startswith(group + " "):
            lines.append(f"  {name:<22} {command.__doc__.splitlines()[0]}")
    if not group:
        lines += ["", "Start here: messi demo, then messi replace photo.jpg --out results"]
    return "\n".join(lines)


def profile_of(arguments: Sequence[str]) -> str:
    """The profile on the command line, else `$MESSI_PROFILE`, else `laptop`.

    Read before the other options, whose defaults depend on it.

    Raises:
        ValueError: a profile that does not exist.
    """
    for argument, following in zip(arguments, [*arguments[1:], None]):
        name, equals, value = argument.partition("=")
        if name == "--profile":
            profile = value if equals else following
            if profile not in PROFILES:
                raise unknown("profile", str(profile), list(PROFILES))
            return profile
    return current_profile()


def defaults_of(command: type, arguments: Sequence[str]) -> dict:
    """Fields whose default depends on the profile: the profile itself and the configuration's."""
    values: dict = {}
    if "profile" in {field.name for field in dataclasses.fields(command)}:
        values["profile"] = profile_of(arguments)
    config = command.__mro__[1]
    if issubclass(config, (TrainConfig, ReplaceConfig)):
        made = preset(config, values.get("profile") or current_profile())
        values |= {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    return values


def parse(name: str, arguments: Sequence[str]) -> object:
    """The command `name` with its options.

    Raises:
        ValueError: options that are unknown, incomplete or of another type, in one line.
        SystemExit: after `--help`.
    """
    import tyro

    command = COMMANDS[name]
    known = defaults_of(command, arguments)
    for field in dataclasses.fields(command):
        if field.name not in known:
            missing = field.default is dataclasses.MISSING
            known[field.name] = tyro.MISSING if missing else field.default
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                command, args=list(arguments), default=command(**known), prog=f"messi {name}"
            )
    except SystemExit as error:
        if not error.code:
            raise
        raise ValueError(one_line(complaint.getvalue(), name)) from None


def one_line(box: str, name: str) -> str:
    """The message inside one of tyro's boxes, and what it suggests, in one line."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box).strip()
    framed = plain.startswith("╭")  # else a terminal without these characters: the title is a line
    lines = [line.strip("│ ") for line in plain.splitlines() if line[0:1] not in ("╭", "╰")]
    parts = re.split(r"^[─-]+$", "\n".join(lines), flags=re.MULTILINE)[0 if framed else 1 :]
    message = " ".join(parts[0].split())
    message = re.sub(r" \(required\)", "", message)
    message = re.sub(rf"^Missing from messi {re.escape(name)}:", "missing:", message)
    for part in parts[1:]:
        if match := re.search(r"Perhaps\s+you\s+meant:\s+(--[\w-]+)", part):
            message += f" (did you mean {match[1]}?)"
    return f"{message.rstrip('.')}; see messi {name} --help"


def explain(error: Exception) -> str:
    """One line for an error: what was wrong, with which file, and what to do."""
    if isinstance(error, OSError) and error.errno and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        remedy = _REMEDIES.get(error.errno)
        return f"{place}{error.strerror}" + (f" ({remedy})" if remedy else "")
    return " ".join(str(error).split()) or type(error).__name__


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(f"messi {version('messi-anything')}")
        return 0
    words = 2 if arguments[0] in GROUPS else 1
    name = " ".join(arguments[:words])
    if words == 2 and (len(arguments) == 1 or arguments[1] in ("-h", "--help")):
        print(overview(arguments[0]))
        return 0
    if name not in COMMANDS:
        raise unknown("command", name, list(COMMANDS))
    return parse(name, arguments[words:])()


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `messi`; never raises for bad input unless MESSI_DEBUG is set."""
    try:
        return dispatch(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        print("messi: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `messi ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        memory = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
        expected = memory or isinstance(error, (ValueError, OSError))
        if os.environ.get("MESSI_DEBUG") or not expected:
            raise
        hint = "; use a smaller --batch or profile" if memory else ""
        print(f"messi: {explain(error)}{hint}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
