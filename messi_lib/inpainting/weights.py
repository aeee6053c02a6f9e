"""Which weights a solver takes: of a generator that draws, or of one that fills holes."""

from __future__ import annotations

from pathlib import Path

from .. import runs
from ..consistency.denoiser import Denoiser, load_denoiser
from .conditional import CHANNELS
from .solvers import SOLVERS, check_solver

INPAINTER = "inpainter.safetensors"


def inpainter_path() -> Path:
    """File of the generator that ships with the repository and fills holes."""
    return runs.weights_dir() / INPAINTER


def solver_for(denoiser: Denoiser) -> str:
    """The solver that a denoiser was made for."""
    return "conditional" if denoiser.condition_channels == CHANNELS else "replacement"


def load_for(solver: str = "", model: Path | str | None = None) -> Denoiser:
    """The generator for a solver, in eval mode.

    Args:
        solver: one of SOLVERS; "" for whatever suits the model.
        model: file of a generator; None for the one that ships: with solver "" the one that fills
            holes.

    Raises:
        FileNotFoundError: no such file. ValueError: an unknown solver, or a model made for others.
    """
    if solver not in ("", *SOLVERS):
        raise ValueError(f"unknown solver {solver!r}: use one of {', '.join(SOLVERS)}")
    if model is None:
        shipped = inpainter_path() if solver in ("", "conditional") else None
        return load_denoiser(shipped)
    denoiser = load_denoiser(model)
    if solver:
        try:
            check_solver(solver, denoiser)
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from None
    return denoiser
