"""Chapter 07: mask painting and inpainting, in a notebook or as an app."""
