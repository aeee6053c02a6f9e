"""Chapter 06: does what the segmenter saw help the generator?

Modules that read an encoder's latents beside the blocks of a frozen generator (cross-attention as
in latent diffusion, Rombach et al. 2022, and its cheaper relatives), a training loss that aligns
the two networks instead (REPA, Yu et al. 2024; U-REPA, Tian et al. 2025), their costs, and a study
with controls, seeds and intervals. Notebook: `06_latent_cross_attention`.
"""
