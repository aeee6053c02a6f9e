"""The batch runner: notebooks with parameters, headless, one folder per run.

papermill runs them; what is added is that a parameter's name and type are checked before the start,
that Ctrl-C and the queue's signals end a notebook in order, and that a run goes on by its name.
"""

from .batch import demo, run_notebooks
from .execute import Result, run_notebook
from .output import clean_notebook, html_report, save_back
from .parameters import (
    Parameter,
    check_parameters,
    find_notebooks,
    notebooks_dir,
    parameters_of,
    parse_settings,
    read_notebook,
)

__all__ = [
    "Parameter",
    "Result",
    "check_parameters",
    "clean_notebook",
    "demo",
    "find_notebooks",
    "html_report",
    "notebooks_dir",
    "parameters_of",
    "parse_settings",
    "read_notebook",
    "run_notebook",
    "run_notebooks",
    "save_back",
]
