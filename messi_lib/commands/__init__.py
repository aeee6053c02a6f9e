"""The commands of `messi`: what each takes (a dataclass) and what it does (calling it).

Everything heavy is imported inside the commands, so that `messi --help` answers at once. The
comment behind a field is its help text.
"""

from .data_people import DataPeople
from .data_subject import DataSubject
from .evaluate import (
    CheckWeights,
    EvaluateFid,
    EvaluateGenerator,
    EvaluateSegmentation,
    FetchWeights,
)
from .inpainter import TrainInpainter, TrainLayer
from .models import (
    ExportConsistency,
    ExportSegmentation,
    TrainConsistency,
    TrainSegmentation,
)
from .plan import BudgetPlan
from .playground import Playground
from .replace import Replace
from .study import StudyFusion
from .use import (
    DataPitch,
    Demo,
    Doctor,
    Notebooks,
    Sample,
)

__all__ = [
    "BudgetPlan",
    "CheckWeights",
    "DataPeople",
    "DataPitch",
    "DataSubject",
    "Demo",
    "Doctor",
    "EvaluateFid",
    "EvaluateGenerator",
    "EvaluateSegmentation",
    "ExportConsistency",
    "ExportSegmentation",
    "FetchWeights",
    "Notebooks",
    "Playground",
    "Replace",
    "Sample",
    "StudyFusion",
    "TrainConsistency",
    "TrainInpainter",
    "TrainLayer",
    "TrainSegmentation",
]
