"""Chapter 07: mask painting and inpainting in the notebook."""

from .server import serve

__all__ = ["serve"]
