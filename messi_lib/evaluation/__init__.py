"""Chapter 04, `notebooks/04_fid.ipynb`: judging images, without knowing any model.

`frechet` has FID (Heusel et al. 2017, arXiv 1706.08500). Beside it stands what FID does not say at
a thousand images: KID in `kernel`, precision and recall in `manifold`, and in `memorisation`
whether a generator draws or copies. `generator` asks all of them at once, `report` compares two
folders.
"""
