"""The public code's numbers, when the fixture lies beside the repository."""

from functools import lru_cache
from pathlib import Path

import pytest
import torch

from messi_lib.consistency.unet import UNet

PATH = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "openai_consistency_models.pt"
DEAD_ARGUMENTS = ("use_checkpoint", "use_fp16", "num_heads_upsample", "use_new_attention_order")


@lru_cache(maxsize=1)
def fixture() -> dict:
    if not PATH.exists():
        pytest.skip("reference numbers of openai/consistency_models absent: parity NOT tested")
    return torch.load(PATH, weights_only=True)


def network(name: str) -> tuple[UNet, dict]:
    entry = fixture()["configs"][name]
    arguments = {k: v for k, v in entry["kwargs"].items() if k not in DEAD_ARGUMENTS}
    unet = UNet(**arguments)
    unet.load_state_dict(entry["state_dict"], strict=True)
    return unet.eval(), entry


def close(ours: torch.Tensor, theirs: torch.Tensor, relative: float = 1e-4) -> None:
    """Largest difference as a share of the reference's largest value."""
    scale = theirs.abs().max().clamp(min=1e-12)
    assert ((ours - theirs).abs().max() / scale).item() < relative


def seeded_weights(state: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Random weights by the fixture's rule (`make_weights` in its README)."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, tensor in state.items():
        r = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            made[name] = r / tensor[0].numel() ** 0.5
        else:
            made[name] = 1 + 0.1 * r if name.endswith("weight") else 0.1 * r
    return made
