"""What the notebooks' numbers may be: one table for the smoke run and the committed outputs.

Each line holds the least and the greatest value that a right run gives: in both profiles, or first
in `smoke` and then in `laptop`, the profile of the committed outputs. Counts, shapes and what is
drawn are exact. What goes through a network has room for other kernels and thread counts, and what
a network was trained to has more. Times only have to be there.

A change of a chapter, of the library or of the weights that moves a number out of its range is
noticed here: if the new number is right, its line is changed together with the chapter's text.
"""

from __future__ import annotations

import math

Span = tuple[float, float] | str | None  # None: the profile does not have this number
SECONDS = (0.0, 3600.0)
SETS = ("other_photos", "1_step", "2_steps", "4_steps", "40_steps")  # of chapter 04
SOLVERS = ("replacement", "resample", "cm4ir", "conditional")  # of chapter 05


def same(low: float, high: float | None = None) -> tuple[Span, Span]:
    """One span for both profiles; with one value, exactly this one."""
    span = low, (low if high is None else high)
    return span, span


def each(smoke: float, laptop: float) -> tuple[Span, Span]:
    """Exactly these values."""
    return (smoke, smoke), (laptop, laptop)


def only_smoke(low: float, high: float) -> tuple[Span, Span]:
    return (low, high), None


def only_laptop(low: float, high: float) -> tuple[Span, Span]:
    return None, (low, high)


RANGES: dict[str, dict[str, tuple[Span, Span]]] = {
    "00_start_here": {
        "photos": same(7),
        "people_found": same(7, 9),  # 7 are drawn; the small segmenter sees one more
        "people_replaced": same(7, 9),
        "share_untouched": same(0.87, 0.93),
        "seconds_per_photo": same(*SECONDS),
    },
    "01_data": {
        "scenes": each(60, 400),
        "people": each(195, 1189),
        "empty_share": each(5 / 60, 0.12),
        "median_person_share": same(0.021, 0.022),
        "touching_share": ((0.61, 0.62), (0.54, 0.56)),
        "overlap_photos_share": ((0.68, 0.70), (0.60, 0.62)),
        "overlap_pixels_share": ((0.035, 0.045), (0.017, 0.023)),
        "squeeze_factor": same(1.64, 1.69),  # 5/3 but for the rounding of boxes
        "heads_lost_centre": same(0.5, 0.65),
        "heads_lost_largest": same(0.04, 0.12),
        "heads_lost_subject": same(0, 0.04),
        "wrong_people": each(3, 5),
        "copies_found": same(4),
        "photos_kept": each(12, 24),
        "faces_found_share": same(0.6, 0.9),
        "subject_images": each(12, 24),
    },
    "02_segmentation": {
        "parameters": each(2_265_001, 4_342_953),
        "historical_parameters": same(123_865_473),
        "position_error_bicubic": same(1.05, 1.13),
        "position_error_window_aware": same(0.06, 0.08),
        "old_iou_of_perfect_mask": same(0.5),
        "boundary_iou_blocks": same(0.57, 0.64),
        "boundary_iou_bilinear": same(0.64, 0.71),
        "boundary_iou_tail": same(0.68, 0.75),
        "steps": each(12, 800),
        "iou_trained_here": ((0.02, 0.6), (0.88, 0.96)),  # twelve steps teach nearly nothing
        "boundary_iou_trained_here": ((0.02, 0.6), (0.82, 0.92)),
        "iou_shipped": ((0.74, 0.83), (0.90, 0.95)),
        "boundary_iou_shipped": ((0.68, 0.78), (0.84, 0.90)),
        "regions_off": ((0.4, 0.9), (0.08, 0.25)),
    },
    "03_consistency_training": {
        "steps": each(12, 600),
        "images_seen": each(96, 19_200),
        "last_loss": ((7.0, 30.0), (15.0, 35.0)),
        "parameters": each(832_973, 1_961_133),
        "pairs_match_old": ((0.0, 0.45), (0.05, 0.45)),  # 0.125 by chance
        "pairs_match_fixed": ((0.0, 0.6), (0.9, 1.0)),
        "sample_std": same(0.26, 0.29),
        "nearest_distance": ((13.5, 15.0), (12.3, 13.6)),
    },
    "04_fid": {
        "count": each(60, 180),
        "extractor": ("random-conv", "inception"),
        "speed_ratio": same(1.0, 1000.0),
        "fid_of_equals": same(53.0, 60.0),  # the bias: the truth is 0
        "fid_of_equals_many": ((6.8, 7.9), (3.4, 4.0)),
        "kid_of_equals": same(-2.5, 2.5),
        "kid_of_copies": same(20.0, 33.0),
        "kid_both_duplicated": same(5.0, 7.5),
        "squeeze_ratio": ((0.9, 1.1), (1.2, 1.6)),  # the random network cannot tell
        "closer_than_heldout": same(0.3, 0.55),
        "planted_found": same(0.05, 0.06),
        **{f"seconds_{calls}_calls": same(*SECONDS) for calls in (1, 2, 4, 40)},
        "fid_random-conv_other_photos": only_smoke(0.05, 0.11),
        "fid_random-conv_1_step": only_smoke(0.35, 0.50),
        "fid_random-conv_2_steps": only_smoke(0.29, 0.43),
        "fid_random-conv_4_steps": only_smoke(0.24, 0.38),
        "kid_random-conv_other_photos": only_smoke(-0.001, 0.001),
        "kid_random-conv_1_step": only_smoke(0.0045, 0.0075),
        "kid_random-conv_2_steps": only_smoke(0.0035, 0.0062),
        "kid_random-conv_4_steps": only_smoke(0.0027, 0.0052),
        "fid_inception_other_photos": only_laptop(67.0, 73.0),
        "fid_inception_1_step": only_laptop(200.0, 223.0),
        "fid_inception_2_steps": only_laptop(153.0, 174.0),
        "fid_inception_4_steps": only_laptop(136.0, 157.0),
        "fid_inception_40_steps": only_laptop(111.0, 131.0),
        "kid_inception_other_photos": only_laptop(-0.004, 0.004),
        "kid_inception_1_step": only_laptop(0.14, 0.19),
        "kid_inception_2_steps": only_laptop(0.085, 0.12),
        "kid_inception_4_steps": only_laptop(0.063, 0.095),
        "kid_inception_40_steps": only_laptop(0.035, 0.057),
        # 40 steps are left out in smoke
        **{f"fid_random-conv_{set_}_se": only_smoke(0.01, 0.12) for set_ in SETS[:-1]},
        **{f"kid_random-conv_{set_}_se": only_smoke(0.0001, 0.0015) for set_ in SETS[:-1]},
        **{f"fid_inception_{set_}_se": only_laptop(1.0, 5.0) for set_ in SETS},
        **{f"kid_inception_{set_}_se": only_laptop(0.0005, 0.008) for set_ in SETS},
    },
    "05_inpainting": {
        "calls": each(2, 12),
        "colourfulness_correct": same(44.0, 56.0),
        "colourfulness_bookkeeping": same(135.0, 170.0),
        "likeness_leak": same(0.95, 1.0),
        "likeness_honest": same(0.2, 0.65),
        "ring_difference": same(4.0, 10.0),
        "ring_difference_layer": same(0.3, 2.0),  # most of the ring is the photo itself, continued
        "cover": ((0.1, 0.9), (0.35, 0.6)),
        "share_changed": same(0.1314, 0.1316),  # drawn: the hole and its feather
        **{f"error_{solver}": ((32.0, 44.0), (33.0, 43.0)) for solver in SOLVERS},
        **{f"seam_{solver}": ((9.0, 20.0), (10.0, 18.5)) for solver in SOLVERS},
    },
    "06_latent_cross_attention": {
        "extra_parameters": same(184_656),
        "held_out_loss_none": same(19.0, 25.0),
        "held_out_loss_true": same(19.0, 25.0),
        "held_out_loss_shuffled": same(19.0, 25.0),
        "true_minus_shuffled": same(-0.3, 0.1),
        "true_minus_shuffled_low": same(-0.5, 0.05),
        "true_minus_shuffled_high": same(-0.1, 0.3),
        "study_runs": ((3, 3), (3, 21)),  # 21 where the study of `messi study fusion` is stored
        "study_difference": ((-0.5, 0.5), (-0.1, 0.1)),
        "overhead_tokens": same(-0.5, 3.0),  # ratios of times
        "overhead_additive": same(-0.5, 3.0),
    },
    "07_playground": {
        "steps": each(2, 12),
        "hole_share": same(0.085, 0.105),
        "changed_share": same(0.12, 0.146),
        "seconds_generate": same(*SECONDS),
        "spread_of_seeds": ((0.16, 0.31), (0.12, 0.25)),
        "change_little_noise": same(0.04, 0.09),
        "change_much_noise": same(0.25, 0.40),
        "last_move_of_pixel": same(0.0, 0.08),
        "hole_found": same(0.085, 0.105),
        "hole_painted": same(0.21, 0.255),
        "hole_box": same(0.255, 0.31),
    },
    "solutions": {
        "left_of_person": same(60, 400),  # pixels
        "change_of_last_calls": same(0.04, 0.4),
        "squeezed": same(640 / 480),
        "repaired": same(0.46 / 0.54),
        "my_area": same(0.0005, 0.005),
        "balance": same(0.4999, 0.5001),
        "crossing": same(128),
        "distance": same(40),
        "likeness_noisy_start": same(0.2, 0.65),
        "deep": same(19.3, 19.6),  # GFLOP
        "my_hole_share": same(120 * 140 / 512**2),
        "upper_share": same(0.2, 0.5),
    },
}


def complaints(metrics: dict, notebook: str, profile: str) -> list[str]:
    """What is wrong with the numbers of one notebook in `smoke` or `laptop`; empty if nothing is.

    Numbers may be rounded to three digits after the point, as chapters print them.
    """
    place = ("smoke", "laptop").index(profile)
    lines = RANGES[notebook].items()
    spans = {name: line[place] for name, line in lines if line[place] is not None}
    found = [f"{name} is missing" for name in spans if name not in metrics]
    found += [f"{name} is not in notebook_metrics.py" for name in metrics if name not in spans]
    for name in metrics.keys() & spans.keys():
        value, span = metrics[name], spans[name]
        if isinstance(span, str):
            right, wanted = value == span, repr(span)
        else:
            right = isinstance(value, (int, float)) and math.isfinite(value)
            right = right and span[0] - 5e-4 <= value <= span[1] + 5e-4
            wanted = " to ".join(f"{end:g}" for end in dict.fromkeys(span))
        if not right:
            found.append(f"{name} is {value!r}, expected {wanted} in {profile}")
    return sorted(found)
