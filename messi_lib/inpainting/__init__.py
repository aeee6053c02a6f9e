"""Chapter 05, `notebooks/05_inpainting.ipynb`: filling a hole in a photo, and nothing else.

`holes` grows person regions into holes, `window` cuts what the generator sees, `solvers` fills it,
`composite` puts the result back: outside the hole and its soft border every pixel stays as it was.
A generator that was trained for nothing of the kind fills holes by replacement or by resampling
(Lugmayr et al. 2022, "RePaint", arXiv 2201.09865); `conditional` takes one that was trained to
fill them (Saharia et al. 2022, "Palette", arXiv 2111.05826).
"""
