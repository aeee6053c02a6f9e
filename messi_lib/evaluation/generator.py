"""Is a generator good, and does it copy? One evaluation of its images against real photos.

Real and generated images pass the same path: uint8 (N, S, S, 3), the same extractor, nothing
stretched. Which image is which is fixed (a bank of latents), so that two evaluations compare. The
name of every number says what it depends on: `kid_inception_train_1087x1087_32px_1step`.

KID to the training photos and to a holdout is the headline: it is unbiased, and the pair tells of
copying, which FID to the training photos rewards. No model is known here: images come from a
function `draw(start, count, steps)`, for instance `consistency.bank.Bank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from messi_lib.evaluation.bench import Bench, Clock, Draw, contact_sheet, enlarged
from messi_lib.evaluation.copies import Space, pixel_space, pixels_of
from messi_lib.evaluation.features import Extractor, load_extractor
from messi_lib.evaluation.frechet import check_distinct
from messi_lib.evaluation.kernel import kid
from messi_lib.evaluation.manifold import prdc
from messi_lib.evaluation.memorisation import pairs_sheet
from messi_lib.evaluation.report import bias_warning, fid_with_error
from messi_lib.evaluation.store import FeatureStore, NoStore

METRICS = 6  # rows of `compare`
K = 5  # neighbours of precision and recall, density and coverage
LEAST = 16  # images, below which nothing is measured
PAIRS = 20  # closest pairs in a picture


class Photos(NamedTuple):
    """Real photos, uint8 (N, S, S, 3), and their features, float64 (N, d)."""

    images: np.ndarray
    features: np.ndarray


def key_of(metric: str, extractor: str, against: str, counts: str, size: int, steps: int) -> str:
    """The name of a number, with all that it depends on; steps=0: no generator was asked.

    >>> key_of("kid", "inception", "train", "1087x500", 32, 1)
    'kid_inception_train_1087x500_32px_1step'
    """
    end = f"_{steps}step{'s' if steps > 1 else ''}" if steps else ""
    return f"{metric}_{extractor}_{against}_{counts}_{size}px{end}"


def check_sets(real: np.ndarray, holdout: np.ndarray | None, n: int, steps: Sequence[int]) -> None:
    """Refuse what cannot be evaluated, before anything is computed.

    Raises:
        ValueError: images of another type or shape, too few, copies within a set or between the
            two; impossible counts.
    """
    if n < LEAST or not steps or min(steps) < 1 or len(set(steps)) < len(steps):
        raise ValueError(
            f"n={n}, steps={tuple(steps)}: draw {LEAST} or more images, each time in another "
            "number of steps from 1 up"
        )
    sets = {"real": real} if holdout is None else {"real": real, "holdout": holdout}
    for name, images in sets.items():
        square = images.ndim == 4 and images.shape[1:] == (*[real.shape[1]] * 2, 3)
        if images.dtype != np.uint8 or not square:
            raise ValueError(
                f"{name}: expected square uint8 images of one size (N, S, S, 3), not "
                f"{images.dtype} {images.shape}"
            )
        if len(images) < LEAST:
            raise ValueError(f"{name} holds {len(images)} photos: give {LEAST} or more")
    names = [f"{name} photo {i + 1}" for name, each in sets.items() for i in range(len(each))]
    check_distinct((image for each in sets.values() for image in each), names)


def _row(
    bench: Bench, metric: str, against: str, size: int, steps: int, counts: str, *value: float
) -> dict:
    return {
        "key": key_of(metric, bench.extractor.name, against, counts, size, steps),
        "metric": metric,
        "against": against,
        "steps": steps,
        "counts": counts,
        "value": value[0],
        "se": value[1] if len(value) > 1 else None,
    }


def compare(bench: Bench, against: str, photos: Photos, seen: np.ndarray, steps: int) -> list[dict]:
    """Rows of a table: features (m, d) of images against real photos.

    `counts` is real x other; precision, recall, density and coverage take the first of the larger
    set, as many as the smaller has.
    """
    real, size = photos.features, photos.images.shape[1]
    counts = f"{len(real)}x{len(seen)}"
    with bench.clock("KID"):
        rows = [_row(bench, "kid", against, size, steps, counts, *kid(real, seen))]
    with bench.clock("FID"):
        rows.append(_row(bench, "fid", against, size, steps, counts, *fid_with_error(real, seen)))
    equal = min(len(real), len(seen))
    with bench.clock("precision, recall, density, coverage"):
        four = prdc(real[:equal], seen[:equal], K)
    for metric in ("precision", "recall", "density", "coverage"):
        value = getattr(four, metric)
        rows.append(_row(bench, metric, against, size, steps, f"{equal}x{equal}", value))
    return rows


def _gap(bench: Bench, rows: list[dict], photos: dict[str, Photos], n: int) -> list[dict]:
    """KID to the holdout minus KID to the training photos: clearly above 0 if it copies."""
    if "holdout" not in photos:
        return []
    kids = {row["against"]: row for row in rows if row["metric"] == "kid"}
    sizes = [len(photos[name].images) for name in ("holdout", "train")]
    steps, size = kids["train"]["steps"], photos["train"].images.shape[1]
    gap = kids["holdout"]["value"] - kids["train"]["value"]
    return [_row(bench, "kid", "holdout-train", size, steps, f"{sizes[0]}-{sizes[1]}x{n}", gap)]


def _spaces(bench: Bench, train: Photos, holdout: Photos | None, flips: bool) -> list[Space]:
    """Where copies are looked for: pixels, and the extractor's features."""
    with bench.clock("memorisation audit"):
        pixels = pixel_space(train.images, None if holdout is None else holdout.images)
    flipped = None
    if flips:
        mirrored = train.images[:, :, ::-1]
        flipped = bench.features(mirrored, "training photos, mirrored")
    unseen = None if holdout is None else holdout.features
    return [pixels, Space(bench.extractor.name, train.features, flipped, unseen)]


def _repeats(images: np.ndarray, steps: int) -> list[str]:
    """A generator that repeats itself is a finding, unlike a folder with copies: no error."""
    lost = len(images) - len({image.tobytes() for image in images})
    return [f"steps={steps}: {lost} of {len(images)} images equal others"] if lost else []


def evaluate_generator(
    draw: Draw,
    real: np.ndarray,
    holdout: np.ndarray | None = None,
    *,
    n: int = 1087,
    steps: Sequence[int] = (1, 2, 4),
    extractor: str | Extractor = "inception",
    cache: FeatureStore | None = None,
    cache_generated: bool = True,
    seconds: float | None = None,
    batch: int = 16,
    flips: bool = True,
    audits: bool = True,
) -> dict:
    """KID, FID, precision, recall, density and coverage of a generator, and whether it copies.

    Args:
        draw: gives images start, ..., start + count - 1 in a number of steps, (count, 3, S, S) in
            [-1, 1]; the same ones each time. It is asked for `store.PORTION` at a time.
        real: the photos that the generator learnt from, uint8 (N, S, S, 3), all different.
        holdout: photos of the same kind that it never saw; None: nothing shows whether KID is low
            because of copies.
        n: images to draw in each number of steps.
        extractor: one of `features.EXTRACTORS`, or a loaded one.
        cache: where features are kept; None: the usual folder.
        cache_generated: keep those of generated images too; a second call then extracts nothing.
        seconds: budget for all. When its end is near no more images are drawn, but for a first
            portion; photos are always seen in full, though only once (they are cached). What was
            left out is in `warnings`.
        flips: look for mirrored copies in features too (in pixels always), which takes as long as
            `real` took.
        audits: False leaves out the memorisation audit.

    Returns:
        `rows`: all numbers (key, metric, value, se, steps, counts, and against: "train",
        "holdout", "holdout-train" for their difference, or "floor", holdout against train);
        `numbers`: key -> value, and key_se -> standard error; `memorisation`: entries of the audit;
        `flagged`: whether one of them says that the generator copies (None without audits);
        `extractor`, `weights`, `weights_sha256`, `scaling`, `resolution`, `n_real`, `n_holdout`,
        `n_generated` (steps -> count), `extracted` (images that went through the network now),
        `seconds` (by stage, and in all), `warnings` (list of str); and `pictures`, name -> uint8
        (H, W, 3), which `page.save_report` takes out of it.

    Raises:
        ValueError: see `check_sets`. FileNotFoundError: no weights for the extractor.
    """
    check_sets(real, holdout, n, steps)
    clock = Clock(seconds)
    with clock("loading the extractor"):
        chosen = load_extractor(extractor) if isinstance(extractor, str) else extractor
    store = cache or FeatureStore()
    bench = Bench(chosen, store, store if cache_generated else NoStore(), batch, clock)
    photos = {"train": Photos(real, bench.features(real, "training photos"))}
    rows, audited, drawn, warnings = [], [], {}, []
    if holdout is not None:
        photos["holdout"] = Photos(holdout, bench.features(holdout, "holdout photos"))
        rows += compare(bench, "floor", photos["train"], photos["holdout"].features, 0)
    else:
        warnings.append("no holdout: a low KID may come from copies; give photos held out")
    spaces = _spaces(bench, photos["train"], photos.get("holdout"), flips) if audits else []
    pictures = {"training photos": contact_sheet(real)}
    reserve = 0.1 * (seconds or 0)  # for what follows the drawing; known after the first time
    for count in steps:
        if drawn and not bench.time_for(reserve):
            warnings.append(f"steps={count}: left out, the time was over")
            continue
        images, seen = bench.drawn(draw, n, count, reserve)
        if images.shape[1:] != real.shape[1:]:
            raise ValueError(f"the generator draws {images.shape[1]} px, not {real.shape[1]} px")
        if len(images) < n:
            warnings.append(f"steps={count}: the time was over after {len(images)} of {n} images")
        drawn[count], before = len(images), clock.used()
        warnings += _repeats(images, count)
        for against, them in photos.items():
            rows += compare(bench, against, them, seen, count)
        rows += _gap(bench, rows[-2 * METRICS :], photos, len(images))
        title = f"{count} step{'s' if count > 1 else ''}"
        pictures[f"samples, {title}"] = contact_sheet(images)
        with clock("memorisation audit"):
            for space in spaces:
                vectors = pixels_of(images) if space.name == "pixels" else seen
                entry, pairs = space.audit(vectors, PAIRS)
                counts = f"{len(real)}x{len(images)}"
                key = key_of("copies", space.name, "train", counts, real.shape[1], count)
                audited.append({"key": key, "steps": count, **entry, "closest": pairs})
                sheet = enlarged(pairs_sheet(images, real, pairs), real.shape[1])
                pictures[f"closest pairs in {space.name}, {title}"] = sheet
        reserve = clock.used() - before
    for them in photos.values():
        for note in bias_warning(len(them.images), min(drawn.values())):
            warnings.append(note)
    return {
        "rows": rows,
        "numbers": _numbers(rows),
        "memorisation": audited,
        "flagged": any(entry["flagged"] for entry in audited) if audits else None,
        "extractor": chosen.name,
        "weights": chosen.weights,
        "weights_sha256": chosen.sha256,
        "scaling": chosen.scaling,
        "resolution": real.shape[1],
        "n_real": len(real),
        "n_holdout": 0 if holdout is None else len(holdout),
        "n_generated": drawn,
        "extracted": bench.extracted,
        "seconds": clock.report(),
        "warnings": warnings,
        "pictures": pictures,
    }


def _numbers(rows: list[dict]) -> dict[str, float]:
    values = {}
    for row in rows:
        values[row["key"]] = row["value"]
        if row["se"] is not None:
            values[f"{row['key']}_se"] = row["se"]
    return values
