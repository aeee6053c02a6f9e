"""Chapter 03, `notebooks/03_consistency_training.ipynb`: drawing in one step, or in a few.

The network is the UNet of consistency models (Song et al. 2023, arXiv 2303.01469). It first learns
to remove noise (Karras et al. 2022, "EDM", arXiv 2206.00364), then to go from noise to an image at
once by easy consistency tuning (Geng et al. 2024, arXiv 2406.14548). `objectives` and `discrete`
have what is trained, `sampling` what comes out, `toy` all of it on points in the plane, in seconds.
"""
