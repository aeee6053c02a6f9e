"""The text of a generator's model card: what its configuration says, and what its makers add."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .denoiser import Denoiser

HEADER = """\
---
license: mit
library_name: messi-anything
pipeline_tag: {task}
tags:
- {tag}
- image-generation
- safetensors
---

# {name}
"""
SECTIONS = {
    "What": "{kind}: from noise to images of {size} in {calls} of the network.",
    "How to use": """\
Needs the library `messi_lib` of Messi-Anything.{place}

```python
import torch
from messi_lib.consistency import {modules}
from messi_lib.consistency.hub import from_pretrained
from messi_lib.images import grid, write_png

denoiser = from_pretrained({source})
sigmas = sampling.step_sigmas({steps}, denoiser)  # noise levels
images = {sampler}(denoiser, 4, sigmas, torch.Generator().manual_seed(0))
write_png(grid(images), "samples.png")  # images: float32 (4, 3, H, W) in [-1, 1]
```""",
    "Architecture": """\
- {count:,} parameters in {dtype}: {megabytes:.1f} MB.
- UNet (names as in openai/consistency_models) on {side} x {side} patches of {c.patch} x {c.patch}
  pixels; a skip gate per patch: {gate}.
- Channels per level: {widths}; residual blocks per level: {c.num_res_blocks}.
- Attention at {attention}; {c.num_head_channels} channels per head.
- Noise levels {c.sigma_min:g} to {c.sigma_max:g}, sigma_data {c.sigma_data:g}.""",
    "Training": """\
What `config.json` asks of a training; it is no record of what was done.

- {c.steps:,} steps with batch {c.batch:,}: {seen:,} images.
- Objective `{c.objective}`: {objective}.
- Optimiser {c.optimizer}, learning rate {c.lr:g} ({c.lr_schedule}), warm-up {c.warmup:,} steps,
  weight decay {c.weight_decay:g}, average of the weights over a relative length {c.ema_std:g}.""",
    "Limits": "- It draws {size}, and nothing tells it what to draw.{silent}{rounded}",
    "Licence": "MIT",
}
# Instead, for a generator that is told of a hole.
IN_HOLES = {
    "What": "{kind}: into holes of photos, {size}, in {calls} of the network.",
    "How to use": """\
Needs the program `messi` of Messi-Anything.

```bash
messi replace photo.jpg --out replaced/ --model model.safetensors   # the file of this folder
```""",
    "Limits": "- It draws {size}, and only into holes.{silent}{rounded}",
}
OBJECTIVES = {
    "ect": "{edm:,} steps EDM, then {ect:,} steps easy consistency tuning in {c.ect_stages} stages",
    "edm": "EDM, ln sigma with mean {c.edm_p_mean:g} and deviation {c.edm_p_std:g}",
    "ct": "consistency training, distance {c.distance}",
    "cd": "consistency distillation, distance {c.distance}",
    "ict": "improved consistency training",
}
# kind, calls; modules, sampler and noise levels of the example
CONSISTENCY = ("Consistency model", "one call or a few", "sampling", "sampling.sample_multistep", 2)
DIFFUSION = ("Diffusion model", "many calls", "ode, sampling", "ode.sample_ode", 18)


def model_card(
    denoiser: Denoiser,
    name: str,
    *,
    half: bool = False,
    repo_id: str | None = None,
    sections: Mapping[str, str] | None = None,
) -> str:
    """Text of the model card: YAML header, title, sections.

    Args:
        name: the title.
        repo_id: what the example loads; None: the folder `name`.
        sections: heading -> Markdown. A new heading comes before "Limits"; one of `SECTIONS`
            replaces that section: say under "Training" what was done, above all for weights of
            another program.

    Raises:
        ValueError: a heading of several lines, or a text that is not a string.
    """
    given = dict(sections or {})
    for heading, text in given.items():
        if not heading.strip() or len(heading.splitlines()) > 1 or not isinstance(text, str):
            raise ValueError(f"section {heading!r}: a heading is one line, its text a string")
    c = denoiser.config
    count = sum(parameter.numel() for parameter in denoiser.parameters())
    kind, calls, modules, sampler, steps = DIFFUSION if c.objective == "edm" else CONSISTENCY
    levels = [2**level for level in range(len(c.channel_mult))]
    attends = {rate for rate in levels if rate in c.attention_resolutions} | {levels[-1]}
    side, edm = c.image_size // c.patch, min(round(c.edm_fraction * c.span), c.steps)
    facts = dict(
        c=c, count=count, side=side, gate="yes" if c.gate else "no",
        place="" if repo_id else " Run it beside this folder.", source=json.dumps(repo_id or name),
        size=f"{c.image_size} x {c.image_size} pixels", dtype="float16" if half else "float32",
        megabytes=count * (2 if half else 4) / 1e6, seen=c.steps * c.batch,
        widths=", ".join(str(int(m * c.model_channels)) for m in c.channel_mult),
        attention=", ".join(f"{side // rate} x {side // rate}" for rate in sorted(attends)),
        objective=OBJECTIVES.get(c.objective, "").format(c=c, edm=edm, ect=max(c.steps - edm, 0)),
        kind=kind, calls=calls, modules=modules, sampler=sampler, steps=steps,
        silent="" if given else "\n- No measurement and no training set is named here.",
        rounded="\n- The weights are rounded to half precision." if half else "",
    )  # fmt: skip
    texts = SECTIONS | (IN_HOLES if c.condition_channels else {})
    merged = {heading: text.format(**facts) for heading, text in texts.items()} | given
    for heading in ("Limits", "Licence"):
        merged[heading] = merged.pop(heading)  # to the end
    body = "".join(f"\n## {heading}\n\n{text.strip()}\n" for heading, text in merged.items())
    task = "image-to-image" if c.condition_channels else "unconditional-image-generation"
    return HEADER.format(name=name, task=task, tag=kind.lower().replace(" ", "-")) + body
