"""Chapter 01, `notebooks/01_data.ipynb`: people photos, subject photos and a procedural world.

`people` and the `coco` modules make a data set for the segmenter out of COCO annotations (Lin et
al. 2014, arXiv 1405.0312). `curate` and its helpers find copies, strangers and flaws in a folder of
photos, and delete nothing. `pitch` draws footballers with exact masks, endlessly and without a
licence: tests, laptops and the weights that ship live on it.
"""
