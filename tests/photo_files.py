"""Photo files of every mode and format, made here."""

import numpy as np
from PIL import Image


def picture(height=40, width=56, seed=0):
    """Smooth and varied: survives JPEG well, and no two regions are equal."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def image_of(mode):
    rgb = Image.fromarray(picture())
    ramp = np.arange(40 * 56).reshape(40, 56)
    if mode == "I;16":
        return Image.fromarray((ramp * 29).astype(np.uint16))
    if mode == "I":
        return Image.fromarray((ramp * 29).astype(np.int32))
    if mode == "F":
        return Image.fromarray((ramp / ramp.max()).astype(np.float32))
    if mode in ("LA", "RGBA"):
        image = rgb.convert(mode)
        image.putalpha(Image.fromarray((ramp % 256).astype(np.uint8)))
        return image
    if mode == "P":
        return rgb.quantize(64)
    return rgb.convert(mode)


FILES = [
    *[("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    *[("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr")],
    *[("TIFF", mode) for mode in ("I;16", "I", "F")],
    *[("BMP", mode) for mode in ("1", "L", "P", "RGB")],
    *[("TGA", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
    *[("PPM", mode) for mode in ("1", "L", "RGB", "I", "F")],
    *[("WEBP", mode) for mode in ("RGB", "RGBA")],
    *[("JPEG2000", mode) for mode in ("L", "LA", "RGB", "RGBA")],
    ("GIF", "P"),
]


def write(path, image, format, **options):
    options = {"lossless": True, "exact": True, **options} if format == "WEBP" else options
    image.save(path, format, **options)
    return path


def block():
    changed = np.zeros((40, 56), bool)
    changed[8:25, 10:30] = True
    return changed


class ImageProfile:
    @staticmethod
    def bytes():
        from PIL import ImageCms

        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
