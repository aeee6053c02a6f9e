"""Which weights a solver takes: of a generator that draws, that fills holes, that draws layers."""

from __future__ import annotations

from pathlib import Path

from .. import runs
from ..consistency.denoiser import Denoiser, embedded_path, load_denoiser
from .conditional import CHANNELS
from .layer import LAYER
from .solvers import SOLVERS, check_solver

FILES = {"conditional": "inpainter.safetensors", "layer": "layer.safetensors"}


def shipped_path(solver: str = "") -> Path:
    """File of the generator that ships with the repository for a solver; "": for "layer"."""
    file = FILES.get(solver or "layer")
    return embedded_path() if file is None else runs.weights_dir() / file


def solver_for(denoiser: Denoiser) -> str:
    """The solver that a denoiser was made for."""
    if denoiser.channels == LAYER:
        return "layer"
    return "conditional" if denoiser.condition_channels == CHANNELS else "replacement"


def load_for(solver: str = "", model: Path | str | None = None) -> Denoiser:
    """The generator for a solver, in eval mode.

    Args:
        solver: one of SOLVERS; "" for whatever suits the model.
        model: file of a generator; None for the one that ships: with solver "" the one that draws
            layers.

    Raises:
        FileNotFoundError: no such file. ValueError: an unknown solver, or a model made for others.
    """
    if solver not in ("", *SOLVERS):
        raise ValueError(f"unknown solver {solver!r}: use one of {', '.join(SOLVERS)}")
    if model is None:
        return load_denoiser(shipped_path(solver))
    denoiser = load_denoiser(model)
    if solver:
        try:
            check_solver(solver, denoiser)
        except ValueError as error:
            raise ValueError(f"{model}: {error}") from None
    return denoiser
