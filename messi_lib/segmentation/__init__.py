"""Chapter 02, `notebooks/02_segmentation.ipynb`: finding the people in a photo.

`model` is the network: a pretrained encoder such as Hiera (Ryali et al. 2023, arXiv 2306.00989),
transformer blocks, a feature pyramid (Lin et al. 2017, arXiv 1612.03144) and a tail at full
resolution. `infer` runs it on a photo of any size, `edges` sharpens the result, `metrics` and
`evaluate` say how good it is. The network normalises its input itself: images come in [-1,1].
"""
