"""Many photos: what `messi replace` does."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..consistency.denoiser import Denoiser
from ..images import SUFFIXES, named_format, output_format, save_photo, write_png
from ..inpainting.seam import Seam
from ..outputs import check_writable, photos_outside
from ..profiles import ReplaceConfig
from ..runs import atomic_write
from .candidates import sheet
from .page import write_page
from .people import numbered, parse_people
from .photo import Finder, Replacement, configured, models, replace
from .plan import Claims, Job, existing, plan
from .record import Record, key_of, number, parse_shard, read_reports


def replace_folder(
    inputs: Iterable[Path | str],
    out: Path | str,
    *,
    segmenter: Finder | Path | str | None = None,
    denoiser: Denoiser | Path | str | None = None,
    people: str | Sequence[int] = "all",
    hole: np.ndarray | Path | str | None = None,
    config: ReplaceConfig | None = None,
    format: str | None = None,
    page: bool = False,
    skip_existing: bool = False,
    workers: int = 1,
    shard: str = "",
    **overrides: object,
) -> list[dict]:
    """Replace people in photos and folders of photos; what `messi replace` does.

    Writes, for each photo, `out/<name>` (in the photo's own format unless `format` says otherwise),
    `out/holes/<stem>.png` (white wherever a pixel may have changed), `out/people/<stem>.jpg`
    (everybody's number, if people were found), with several candidates `out/candidates/<stem>.png`;
    and the report (see `record`). Photos that would get the same name get a number, and so does a
    result in whose place lies a file that is not an earlier result of the same photo. One bad file
    among several does not stop the others.

    Args:
        segmenter, denoiser, people, hole, config, overrides: as `photo.replace`; `hole` is for a
            single photo.
        page: write `report.html` too, with the photos before and after.
        skip_existing: leave photos alone whose result is there; their entries of earlier reports
            are kept.
        workers: photos at a time, in threads that share the models.
        shard: "3/16": only the third of sixteen parts, for jobs that share the work and `out`.

    Returns:
        The report: one dict per photo with `photo`, `output`, `hole`, `people` (number found),
        `chosen`, `seconds`, `stages`, `warnings`, `error` (None, or one line; then there are no
        files), `size` (width, height), `boxes` (of all people: y0, x0, y1, x1), `seams` (per hole:
        `lab` and `gradient`, see `seam.Seam`), `seed`, `overlay`, `sheet` and `candidates` (the
        best first: `seed`, `seams`).

    Raises:
        FileNotFoundError, ValueError, PermissionError: no input, a single photo that is bad, an
            `out` that cannot be written or is an input, missing weights, a bad argument.
    """
    parse_people(people)
    if format is not None:
        named_format(format)
    which, count = parse_shard(shard)
    if workers < 1:
        raise ValueError(f"workers={workers}: use 1 or more")
    config = configured(config, overrides)
    inputs = [Path(path) for path in ([inputs] if isinstance(inputs, (str, Path)) else inputs)]
    out = Path(out)
    photos = photos_outside(inputs, out)
    if hole is not None and len(photos) > 1:
        raise ValueError(f"one hole for {len(photos)} photos: give a single photo with a hole")
    check_writable(out)
    only = len(photos) == 1 and photos[0] in inputs
    earlier = read_reports(out)
    jobs = plan(photos, out, earlier)[which - 1 :: count]
    record = Record(out, (which, count), [key_of(job.photo) for job in jobs])
    todo = []
    for job in jobs:
        found = existing(job, out, earlier, format) if skip_existing else None
        if found is None:
            todo.append(job)
        else:
            entry = earlier.get(key_of(job.photo))
            known = entry is not None and not entry.get("error")  # the result is there after all
            record.add(_empty(job) | entry if known else _skipped(job, found))
    if len(todo) < len(jobs):
        print(f"{len(jobs) - len(todo)} of {len(jobs)} photos were done before", flush=True)
    if todo:
        segmenter, denoiser = models(segmenter, denoiser, config, hole is None)
    claims = Claims([*photos, *([Path(hole)] if isinstance(hole, (str, Path)) else [])], earlier)

    def work(job: Job) -> dict:
        start, entry = time.perf_counter(), _empty(job)
        try:
            done = replace(
                job.photo, segmenter=segmenter, denoiser=denoiser, people=people, hole=hole,
                config=config,
            )  # fmt: skip
            entry |= _save(done, out, job, claims, format)
        except Exception as error:  # whatever is wrong with one file, the others go on
            if only:
                raise
            entry["error"] = _one_line(error)
        entry["seconds"] = round(time.perf_counter() - start, 3)
        return entry

    try:
        _follow(todo, work, record, workers)
    finally:
        record.close()
        if page and record.entries():
            write_page(record.entries(), record.page)
    return record.entries()


def _follow(todo: list[Job], work: Callable, record: Record, workers: int) -> None:
    """Do all jobs, record them, and tell how far it is."""
    interactive = sys.stderr.isatty() or _in_notebook()
    start = time.perf_counter()
    with tqdm(total=len(todo), disable=not interactive, unit="photo") as bar:
        for done, entry in enumerate(_worked(todo, work, workers), 1):
            record.add(entry)
            line = f"[{done}/{len(todo)}] {_summary(entry)}"
            if interactive:
                bar.write(line, file=sys.stderr)
            else:
                left = (time.perf_counter() - start) / done * (len(todo) - done) / 60
                print(line + (f" ({left:.0f} min left)" if left > 1 else ""), flush=True)
            bar.update()


def _worked(todo: list[Job], work: Callable, workers: int) -> Iterator[dict]:
    """The entries as they come; with one worker in the order of the jobs."""
    if workers == 1:
        yield from map(work, todo)
        return
    threads = max(torch.get_num_threads() // workers, 1)  # each worker has so many for itself
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        for future in as_completed([pool.submit(work, job) for job in todo]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _empty(job: Job) -> dict:
    entry = {"photo": str(job.photo), "output": None, "hole": None, "people": 0, "chosen": []}
    entry |= {"seconds": 0.0, "stages": {}, "warnings": [], "error": None, "size": None}
    entry |= {"boxes": [], "seams": [], "seed": None, "overlay": None, "sheet": None}
    return entry | {"candidates": []}


def _skipped(job: Job, found: Path) -> dict:
    notes = ["the result was there, but no report of it: skipped"]
    return _empty(job) | {"output": str(found), "warnings": notes}


def _save(done: Replacement, out: Path, job: Job, claims: Claims, format: str | None) -> dict:
    """Write one result and its pictures; the rest of its line in the report."""
    photo, notes = done.photo, list(done.warnings)
    target = output_format(photo, format)
    suffix = job.photo.suffix if target == photo.format else SUFFIXES[target]
    output = claims.claim(job.photo, out / f"{job.stem}{suffix}")
    if output.stem != job.photo.stem:
        notes.append(f"the name {job.photo.stem}{suffix} is taken: saved as {output.name}")
    pictures: dict[str, Path] = {}

    def picture(kind: str, folder: str, suffix: str, pixels: np.ndarray) -> None:
        path = claims.claim(job.photo, out / folder / f"{output.stem}{suffix}", ours=True)
        pictures[kind] = path
        write_png(pixels, path) if suffix == ".png" else _write_jpeg(pixels, path)

    try:
        picture("hole", "holes", ".png", done.changed)
        if done.people:
            shown = numbered(photo.pixels, done.people, done.chosen)
            picture("overlay", "people", ".jpg", shown)
        if done.candidates:
            picture("sheet", "candidates", ".png", sheet(done.candidates))
        if done.changed.any() or target != photo.format:
            notes += save_photo(photo, done.pixels, done.changed, output, format=format)
        else:
            atomic_write(output, photo.path.read_bytes())
    except BaseException:
        for path in pictures.values():
            path.unlink(missing_ok=True)
        raise
    entry = {"output": str(output), "people": len(done.people), "chosen": list(done.chosen)}
    entry |= {kind: str(path) for kind, path in pictures.items()}
    return entry | {
        "stages": done.seconds,
        "warnings": notes,
        "size": list(photo.pixels.shape[1::-1]),
        "boxes": [list(person.box) for person in done.people],
        "seams": _seams(done.seams),
        "seed": done.seed,
        "candidates": [{"seed": c.seed, "seams": _seams(c.seams)} for c in done.candidates],
    }


def _seams(seams: Sequence[Seam]) -> list[dict]:
    return [{"lab": number(s.lab), "gradient": number(s.gradient)} for s in seams]


def _write_jpeg(pixels: np.ndarray, path: Path) -> Path:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=85)
    return atomic_write(path, stream.getvalue())


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if text and isinstance(error, (ValueError, OSError)) else repr(error)


def _summary(entry: dict) -> str:
    if entry["error"]:
        return f"{Path(entry['photo']).name}: FAILED: {entry['error']}"
    notes = "".join(f"; {note}" for note in entry["warnings"])
    count = f"{len(entry['chosen'])} of {entry['people']} people replaced"
    if entry["seams"] and not entry["people"]:
        count = f"{len(entry['seams'])} holes filled"
    return f"{Path(entry['photo']).name}: {count}, {entry['seconds']:.1f} s{notes}"
