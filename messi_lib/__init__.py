"""Messi-Anything: find the people in a photo and redraw them as one learnt subject."""

__version__ = "0.1.0"
