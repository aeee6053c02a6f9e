"""The commands of `messi`: what each takes (a dataclass) and what it does (calling it).

Everything heavy is imported inside the commands, so that `messi --help` answers at once.
"""

from .models import (
    ExportConsistency,
    ExportSegmentation,
    TrainConsistency,
    TrainSegmentation,
)
from .use import (
    DataPitch,
    Demo,
    Doctor,
    EvaluateFid,
    Notebooks,
    Playground,
    Replace,
    Sample,
)

__all__ = [
    "DataPitch",
    "Demo",
    "Doctor",
    "EvaluateFid",
    "ExportConsistency",
    "ExportSegmentation",
    "Notebooks",
    "Playground",
    "Replace",
    "Sample",
    "TrainConsistency",
    "TrainSegmentation",
]
