"""The README's table of what was measured, written from the newest results and never by hand.

    python benchmarks/table.py            # writes it between the markers in README.md
    python benchmarks/table.py --check    # exit status 1 when README.md says something else

Of each kind of result in benchmarks/results/*.jsonl the newest line counts, of runs on a GPU the
newest run; lines of failed measurements and of `--quick` runs do not. What was never measured
stands in the table as "not measured".
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from record import RESULTS, ROOT, read_lines

README = ROOT / "README.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
MISSING = "not measured"
HEAD = """## Measured

Ratios come from one run in which both sides took turns. `make bench` measures what a CPU can (ten
minutes), `python benchmarks/gpu.py --out OUT` the rest on a GPU; `benchmarks/table.py` writes this
table from [benchmarks/results](benchmarks/results), and a test compares the two.

| what | measured | against | device | date and file |
|---|---|---|---|---|
"""
Lines = list[dict]


@dataclass(frozen=True)
class Found:
    """A row's numbers in words, and the line that they (or the newest of them) come from."""

    measured: str
    against: str
    line: dict


def newest(lines: Lines, benchmark: str, usable: Callable[[dict], object] = bool) -> dict | None:
    """The last line of a benchmark that passes; `lines` are in order of time."""
    found = [line for line in lines if line["benchmark"] == benchmark and usable(line)]
    return found[-1] if found else None


def same_run(lines: Lines, one: dict) -> Lines:
    """Lines that were written by the run that wrote `one`."""
    names = ("benchmark", "date", "time", "run", "file")
    return [x for x in lines if all(x.get(name) == one.get(name) for name in names)]


# --- rows, each from all lines; None: not measured ----------------------------------------------


def unet(lines: Lines) -> Found | None:
    line = newest(lines, "unet_step", lambda x: "diffusers_over" in x)
    if line is None:
        return None
    over = line["diffusers_over"]
    last = over["ours_channels_last"] / over["diffusers_channels_last"]
    measured = f"{over['ours']:.2f} times as fast (channels-last: {last:.2f})"
    return Found(measured, "the same network in diffusers", line)


def fid(lines: Lines) -> Found | None:
    line = newest(lines, "fid", lambda x: x["ratio_at_1000"])
    if line is None:
        return None
    same = "the same number" if line["equal"] else "another number"
    return Found(f"{line['ratio_at_1000']:.0f} times as fast, {same}", "pytorch-fid", line)


def torchmetrics(lines: Lines) -> Found | None:
    line = newest(lines, "fid", lambda x: isinstance(x.get("torchmetrics_at_1000"), (int, float)))
    if line is None:
        return None
    return Found(f"{line['torchmetrics_at_1000']:.0f} times as fast", "torchmetrics", line)


def data(lines: Lines) -> Found | None:
    line = newest(lines, "data", lambda x: "gain" in x)
    if line is None:
        return None
    measured = f"{line['feed_warm']:,} images/s, {line['gain']:,.0f} times as fast"
    return Found(measured, "reading and cropping each photo", line)


def maskrcnn(lines: Lines) -> Found | None:
    line = newest(lines, "maskrcnn", lambda x: {"few", "network"} <= x.keys())
    if line is None:
        return None
    few, many = line["few"], line["network"]
    measured = f"{few['ours_ms']:.0f} ms, {few['ratio']:.0f} to {many['ratio']:.0f} times as fast"
    boxes = f"{few['proposals']} to {many['proposals']:,} boxes"
    return Found(measured, f"Mask R-CNN with {boxes}", line)


def journey(lines: Lines) -> Found | None:
    line = newest(lines, "replace_command", lambda x: "layer" in x)
    if line is None:
        return None
    ours, older = line["layer"], line["replacement"]
    measured = f"{ours['photo_seconds']:.1f} s, after {ours['start_seconds']:.1f} s to start"
    return Found(measured, f"{older['photo_seconds']:.1f} s with the older solver", line)


def likeness(lines: Lines) -> Found | None:
    line = newest(lines, "replace", lambda x: x.get("table") == "coco")
    arms = {"solver": "layer"}, {"solver": "replacement"}  # as they are, with no more options
    ours, older = (
        next((row for row in (line or {"rows": []})["rows"] if row["arm"] == arm), None)
        for arm in arms
    )
    if ours is None or older is None:
        return None
    measured, against = ("{:.3f} +- {:.3f}".format(*arm["kid_to_subject"]) for arm in (ours, older))
    return Found(measured, f"{against} with the older solver", line)


def kid(lines: Lines) -> Found | None:
    line = newest(lines, "players", lambda x: x.get("table") == "steps")
    if line is None:
        return None
    known = {x["steps"]: x["kid"] for x in same_run(lines, line) if x.get("table") == "steps"}
    measured = ", ".join(f"{known[n]:.3f}" if n in known else "-" for n in (1, 2, 4, 40))
    floor = newest(lines, "players", lambda x: x.get("table") == "floor")
    against = f"drawn photos among themselves: {floor['kid']:.3f}" if floor else "-"
    return Found(measured, against, line)


def subject(lines: Lines) -> Found | None:
    line = newest(lines, "subject")
    if line is None:
        return None
    wanted = ((2, "holdout"), (0, "floor"))  # of the photos it never saw
    known = {
        row["against"]: f"{row['value']:.3f} +- {row['se']:.3f}"
        for row in line["generator"]["rows"]
        if row["metric"] == "kid" and (row["steps"], row["against"]) in wanted
    }
    figures = line["layer"]["kid_to_subject"]
    pictures = f"pictures in 2 steps {known.get('holdout', '-')}"
    inside = "figures in photos {:.3f} +- {:.3f}".format(*figures["subject"])
    others = "other people {:.3f} +- {:.3f}".format(*figures["the people themselves"])
    return Found(f"{pictures}; {inside}", f"photos of it {known.get('floor', '-')}; {others}", line)


def iou(lines: Lines) -> Found | None:
    line = newest(lines, "coco_withheld_mirrored", lambda x: "mean_iou" in x)
    if line is None:
        return None
    large = line["groups"]["largest_large"]["mean_iou"]
    measured = f"{line['mean_iou']:.2f} ± {line['mean_iou_95']:.2f}"
    return Found(measured, f"where the largest person is large: {large:.2f}", line)


def evaluation(lines: Lines) -> Found | None:
    line = newest(lines, "fid", lambda x: "others" in x)
    if line is None:
        return None
    n, others = line["others"]["n"], line["others"]
    seconds = sum(value for name, value in others.items() if name != "n")
    theirs = [row["seconds"]["pytorch_fid"] for row in line["results"] if row["n"] == n]
    against = f"FID alone by pytorch-fid: {statistics.median(theirs):.0f} s" if theirs else "-"
    return Found(f"{seconds:.1f} s for {n:,} images", against, line)


def playground(lines: Lines) -> Found | None:
    line = newest(lines, "playground", lambda x: x.get("size") == [640, 480])
    if line is None:
        return None
    wait = statistics.median(line["painted_to_result_s"])
    return Found(f"{line['hard']['fps']:.0f} frames/s, {wait:.1f} s to the result", "-", line)


# --- of a GPU -----------------------------------------------------------------------------------


def best(lines: Lines, part: str, key: str, sign: int = 1) -> dict[str, dict]:
    """By preset, the line of the newest GPU run with the largest (sign -1: smallest) value."""
    one = newest(lines, "gpu", lambda x: x.get("part") == part and x.get(key) is not None)
    found: dict[str, dict] = {}
    for line in same_run(lines, one) if one else []:
        value = line.get(key) if line.get("part") == part else None
        if value is None:
            continue
        before = found.get(line["preset"])
        if before is None or sign * value > sign * before[key]:
            found[line["preset"]] = line
    return found


def gpu_share(lines: Lines) -> Found | None:
    found = best(lines, "training", "utilisation")
    if not found:
        return None
    shares = [f"`{name}` {100 * line['utilisation']:.0f} %" for name, line in found.items()]
    return Found(", ".join(shares), "goal: 40 %", next(iter(found.values())))


def gpu_speed(lines: Lines) -> Found | None:
    line = best(lines, "training", "images_per_second").get("image_a")
    if line is None:
        return None
    before = line["history"]
    against = f"before: {before['images_per_second']} on an {before['device']}"
    return Found(f"{line['images_per_second']:.1f} images/s ({line['row']})", against, line)


def gpu_memory(lines: Lines) -> Found | None:
    line = best(lines, "training", "reserved_gb", -1).get("image_a")
    if line is None:
        return None
    measured = f"{line['reserved_gb']:.0f} GB at {line['images_per_second']:.1f} images/s"
    return Found(f"{measured} ({line['row']})", "before: nearly 80 GB; goal: below 40", line)


def gpu_sampling(lines: Lines) -> Found | None:
    two = [line if line.get("steps") == 2 else {**line, "part": ""} for line in lines]
    found = best(two, "sampling", "images_per_second")
    if not found:
        return None
    rates = [f"`{name}` {line['images_per_second']:.0f}" for name, line in found.items()]
    against = "before: 1, in 40 steps; goal: 50"
    return Found(", ".join(rates) + " images/s", against, next(iter(found.values())))


def gpu_right(lines: Lines) -> Found | None:
    one = newest(lines, "gpu", lambda x: "passed" in x)
    if one is None:
        return None
    run = same_run(lines, one)
    words = {True: "yes", False: "no", None: MISSING}
    passed = {line["part"]: line["passed"] for line in run if "passed" in line}
    measured = ", ".join(f"{part} {words[passed.get(part)]}" for part in ("resume", "precision"))
    curve = [line for line in run if line.get("part") == "learning" and "kid" in line]
    if not curve:
        return Found(measured, "-", one)
    first, last = curve[0], curve[-1]
    fell = f"KID ({last['extractor']}) {first['kid']:.3f} to {last['kid']:.3f}"
    return Found(f"{measured}; {fell} in {last['seconds']:.0f} s", "-", one)


ROWS: dict[str, Callable[[Lines], Found | None]] = {
    "A training step of the UNet (32 px)": unet,
    "FID of 1,000 images, from their features": fid,
    "FID of the same images": torchmetrics,
    "Photos for training, from the cache": data,
    "Finding people in a photo of 256 px": maskrcnn,
    "`messi replace`, one photo of 512 px": journey,
    "All numbers of an evaluation, from features": evaluation,
    "KID of the generator that ships, in 1, 2, 4, 40 steps": kid,
    "IoU of the segmenter on withheld COCO photos": iou,
    "People replaced in real photos: their KID to drawn photos of the subject": likeness,
    "A real subject, learnt on a CPU: KID to its photos": subject,
    "Playground: painting, and a result": playground,
    "Training on a GPU: share of the measured bf16 rate": gpu_share,
    "Training `image_a` on a GPU": gpu_speed,
    "Least memory for `image_a`, batch 16": gpu_memory,
    "Drawing on a GPU, 256 px, 2 steps": gpu_sampling,
    "On a GPU: exact resume; bf16 learns as fp32": gpu_right,
}


# --- the table ----------------------------------------------------------------------------------


def counts(line: dict) -> bool:
    """Whether a line is a measurement."""
    return "benchmark" in line and not ("failed" in line or line.get("quick"))


def block(paths: list[Path]) -> str:
    """Heading and table, from result files."""
    lines = [line for line in read_lines(paths) if counts(line)]
    rows = []
    for what, find in ROWS.items():
        found = find(lines)
        if found is None:
            cells = [what, MISSING, "-", "-", "-"]
        else:
            line = found.line
            source = f"[{line['date']}](benchmarks/results/{line['file']})"
            cells = [what, found.measured, found.against, line.get("device", "not noted"), source]
        rows.append("| " + " | ".join(cells) + " |\n")
    return HEAD + "".join(rows)


def replaced(text: str, made: str) -> str:
    """The README's text with `made` between the markers.

    Raises:
        ValueError: the markers are not there, or not in order.
    """
    start, stop = text.find(BEGIN), text.find(END)
    if not 0 <= start < stop or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"README.md needs one {BEGIN} and after it one {END}")
    return text[: start + len(BEGIN)] + "\n" + made + text[stop:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of result files")
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args()
    text = options.readme.read_text()
    try:
        wanted = replaced(text, block(sorted(options.results.glob("*.jsonl"))))
    except ValueError as error:
        print(f"table.py: {error}", file=sys.stderr)
        return 2
    if options.check:
        if text != wanted:
            print("README.md differs from the results: python benchmarks/table.py writes it anew")
        return int(text != wanted)
    temporary = options.readme.with_name(f".{options.readme.name}.tmp")
    temporary.write_text(wanted)
    os.replace(temporary, options.readme)
    return 0


if __name__ == "__main__":
    sys.exit(main())
