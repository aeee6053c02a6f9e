"""Chapter 06: segmentation latents as a condition of the generator."""
