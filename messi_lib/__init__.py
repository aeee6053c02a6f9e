"""Messi-Anything: find the people in a photo and redraw them as one learnt subject.

A photo goes through the rooms of the library in this order: `images.load_photo` reads it upright,
`segmentation` finds the people, `replace` chooses among them and makes holes, `inpainting` cuts a
window around each hole and fills it with the generator of `consistency`, and `images.save_photo`
writes it back, with every pixel outside the holes and their soft borders as it was. `data` has the
photos that the two networks learn from, `training` the loop, `evaluation` the judges, `fusion` a
generator that reads the segmenter's features, `playground` a brush. One room belongs to one
notebook, and imports only go down (`tests/test_imports.py`).

The same in all rooms: images are float32 RGB `(B,3,H,W)` in [-1,1], masks are bool and named by
what True means (`person`, `hole`, `keep`, `ignore`), noise levels (`sigma`) descend, randomness
comes from an explicit `torch.Generator`, and errors are one line that says what, where, and what to
do.
"""

__version__ = "0.1.0"
