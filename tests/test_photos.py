"""Photo files: every mode, orientation and damage."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from messi_lib import photos
from messi_lib.photos import list_photos, load_photo, output_format, photo_from, save_photo


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


@pytest.mark.parametrize(("format", "mode"), FILES)
def test_outside_is_bit_identical_in_every_mode(tmp_path, format, mode):
    photo = load_photo(write(tmp_path / "in", image_of(mode), format))
    assert (photo.mode, photo.format) == (mode, format)
    new = np.full((40, 56, 3), (200, 60, 30), np.uint8)
    changed = block()
    save_photo(photo, new, changed, tmp_path / "out")
    with Image.open(tmp_path / "out") as result:
        result.load()
    assert (result.mode, result.size, result.format) == (mode, (56, 40), format)
    before, after = np.asarray(photo.native), np.asarray(result)
    if mode == "P":  # a file may number its colours anew: the colours count
        before, after = (np.asarray(image.convert("RGB")) for image in (photo.native, result))
    assert np.array_equal(before[~changed], after[~changed])
    seen = load_photo(tmp_path / "out").pixels[changed].astype(int)
    if mode in ("RGB", "RGBA", "P", "CMYK"):
        assert np.abs(seen - new[changed]).max() <= 2
    elif mode in ("L", "LA", "I", "I;16", "F"):
        grey = int(np.asarray(Image.fromarray(new).convert("L"))[0, 0])
        assert np.abs(seen - grey).max() <= 1
    else:  # Lab and YCbCr round, a bilevel image dithers
        assert np.abs(seen.mean(0) - (new[0, 0] if mode != "1" else 100)).max() < 20
    if mode in ("LA", "RGBA"):
        assert np.array_equal(before[..., -1], after[..., -1]), "alpha must stay, inside too"


def test_jpeg_stays_jpeg_of_high_quality_with_exif_and_icc(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6
    icc = ImageProfile.bytes()
    write(tmp_path / "in.jpg", image_of("RGB"), "JPEG", exif=exif, icc_profile=icc, quality=98)
    photo = load_photo(tmp_path / "in.jpg")
    assert photo.pixels.shape == (56, 40, 3)  # quarter turn
    changed = np.zeros((56, 40), bool)
    changed[:10] = True
    save_photo(photo, photo.pixels, changed, tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as result:
        assert (result.format, result.size, result.layer) == ("JPEG", (40, 56), [
            (1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)])  # fmt: skip
        assert result.getexif()[0x0112] == 1 and result.getexif()[0x010F] == "Maker"
        assert result.info["icc_profile"] == icc
        assert photos.GENERATED.encode() in result.info["comment"]
        assert b"compositeWithTrainedAlgorithmicMedia" in result.info["xmp"]
        error = np.abs(np.asarray(result).astype(int) - photo.pixels)
    assert error.mean() < 1.5


class ImageProfile:
    @staticmethod
    def bytes():
        from PIL import ImageCms

        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_says_and_tag_reset(tmp_path, format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x0110] = "Model"
    write(tmp_path / "in", image_of("RGB"), format, exif=exif)
    with Image.open(tmp_path / "in") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    photo = load_photo(tmp_path / "in")
    assert np.array_equal(photo.pixels, expected)
    save_photo(photo, photo.pixels, np.ones(expected.shape[:2], bool), tmp_path / "out")
    again = load_photo(tmp_path / "out")
    assert again.pixels.shape == expected.shape, "not turned twice"
    with Image.open(tmp_path / "out") as result:
        result.load()
        assert result.getexif().get(0x0112, 1) == 1
        assert result.getexif()[0x0110] == "Model"
    if format != "JPEG":
        assert np.array_equal(again.pixels, expected)


def test_the_preview_of_the_original_is_blanked(tmp_path):
    """IFD1 of the EXIF block holds a small copy of the photo: it would go on showing the person."""
    secret = b"\xff\xd8 small picture of the original \xff\xd9"
    entries = [(0x0112, 3, 1, struct.pack("<HH", 8, 0))]
    head = b"II*\0" + struct.pack("<I", 8)
    first = struct.pack("<H", 1) + b"".join(struct.pack("<HHI", *e[:3]) + e[3] for e in entries)
    at = 8 + len(first) + 4
    second = struct.pack("<HHHII", 2, 0x0201, 4, 1, at + 2 + 24 + 4)
    second += struct.pack("<HHII", 0x0202, 4, 1, len(secret)) + bytes(4)
    blob = b"Exif\0\0" + head + first + struct.pack("<I", at) + second + secret
    write(tmp_path / "in.jpg", image_of("RGB"), "JPEG", exif=blob)
    assert secret in (tmp_path / "in.jpg").read_bytes()
    photo = load_photo(tmp_path / "in.jpg")
    save_photo(photo, photo.pixels, np.ones(photo.pixels.shape[:2], bool), tmp_path / "out.jpg")
    written = (tmp_path / "out.jpg").read_bytes()
    assert b"original" not in written
    assert photo.pixels.shape == (56, 40, 3)  # orientation 8
    assert load_photo(tmp_path / "out.jpg").pixels.shape == (56, 40, 3)


@given(st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_damaged_exif_never_raises(blob):
    for prefix in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"Exif\0\0II*\0\x08\0\0\0"):
        cleaned = photos._clean_exif(prefix + blob)
        assert cleaned is None or len(cleaned) == len(prefix + blob)


def test_png_keeps_texts_and_says_generated(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Title", "A day out")
    image_of("RGB").save(tmp_path / "in.png", pnginfo=info, dpi=(300, 300))
    photo = load_photo(tmp_path / "in.png")
    save_photo(photo, photo.pixels, block(), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert result.text["Title"] == "A day out"
        assert result.text["Software"] == photos.GENERATED
        assert "compositeWithTrainedAlgorithmicMedia" in result.text["XML:com.adobe.xmp"]
        assert round(result.info["dpi"][0]) == 300
    save_photo(photo, photo.pixels, np.zeros((40, 56), bool), tmp_path / "same.png")
    assert photos.GENERATED.encode() not in (tmp_path / "same.png").read_bytes()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("older", ["attribute", "element"])
def test_the_note_joins_what_the_file_says_already(tmp_path, format, older):
    """Well-formed XMP with one DigitalSourceType, IPTC's for parts made by a model."""
    import xml.etree.ElementTree as ElementTree

    photo_type = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    attribute = f'e:DigitalSourceType="{photo_type}" ' if older == "attribute" else ""
    element = f"<e:DigitalSourceType>{photo_type}</e:DigitalSourceType>" if not attribute else ""
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
        'syntax-ns#"><rdf:Description rdf:about="" xmlns:e="http://iptc.org/std/Iptc4xmpExt/'
        f'2008-02-29/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" {attribute}xmp:Rating="5">'
        f"{element}</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp)
        write(tmp_path / "in", image_of("RGB"), format, pnginfo=info)
    elif format == "TIFF":
        write(tmp_path / "in", image_of("RGB"), format, tiffinfo={700: xmp.encode()})
    else:
        write(tmp_path / "in", image_of("RGB"), format, xmp=xmp.encode())
    photo = load_photo(tmp_path / "in")
    save_photo(photo, photo.pixels, block(), tmp_path / "out")
    with Image.open(tmp_path / "out") as result:
        found = result.info.get("xmp") or result.info["XML:com.adobe.xmp"]
    found = found.decode() if isinstance(found, bytes) else found
    tree = ElementTree.fromstring(found.strip("\0"))
    names = {"{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": photos.SOURCE}
    told = [
        (name, node.attrib.get(name))
        for node in tree.iter()
        for name in names
        if name in node.attrib or node.tag == name
    ]
    assert told == list(names.items())
    assert 'Rating="5"' in found


@pytest.mark.parametrize("xmp", [None, b"", b"\xff\xfe\0x", b"no rdf at all", b"<rdf:RDF>"])
def test_damaged_xmp_gives_way_to_the_note(xmp):
    import xml.etree.ElementTree as ElementTree

    packet = photos.xmp_with_note(xmp).decode()
    assert packet.count(photos.SOURCE) == 1
    ElementTree.fromstring(packet)


def test_a_packet_too_large_for_a_jpeg_segment_gives_way_to_the_note():
    """Counted in bytes: these letters have three each."""
    packet = "<rdf:RDF>" + "\u6f22" * 25_000 + "</rdf:RDF>"
    assert len(photos.xmp_with_note(packet.encode())) < 2_000


def test_an_empty_file_says_so(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.jpg is empty \(0 bytes\)"):
        load_photo(tmp_path / "a.jpg")


def test_transparent_pixels_of_a_palette_stay_and_new_ones_are_opaque(tmp_path):
    image = image_of("P")
    index = np.array(image)
    index[:, :20] = 7
    image.putdata(index.ravel().tolist())
    image.save(tmp_path / "in.gif", transparency=7)
    photo = load_photo(tmp_path / "in.gif")
    clear = np.asarray(photo.native.convert("RGBA"))[..., 3] == 0
    assert clear.sum() >= 20 * 40
    new = np.full((40, 56, 3), photo.pixels[0, 0], np.uint8)  # the colour that means transparent
    save_photo(photo, new, block(), tmp_path / "out.gif")
    with Image.open(tmp_path / "out.gif") as result:
        assert np.array_equal(np.asarray(result.convert("RGBA"))[..., 3] == 0, clear)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_of_a_png_is_never_generated(tmp_path, mode):
    image = image_of(mode)
    key = 77 if mode == "L" else (10, 20, 30)
    image.paste(key, (0, 0, 15, 15))
    image.save(tmp_path / "in.png", transparency=key)
    photo = load_photo(tmp_path / "in.png")
    clear = np.asarray(photo.native.convert("RGBA"))[..., 3] == 0
    new = np.full((40, 56, 3), key, np.uint8)
    save_photo(photo, new, block(), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as result:
        assert np.array_equal(np.asarray(result.convert("RGBA"))[..., 3] == 0, clear)


@pytest.mark.parametrize(
    ("format", "mode", "target", "expected"),
    [
        ("JPEG", "CMYK", "png", "RGB"),
        ("TIFF", "F", "png", "L"),
        ("TIFF", "LAB", "jpg", "RGB"),
        ("PNG", "RGBA", "jpeg", "RGB"),
        ("PNG", "I;16", "jpeg", "L"),
        ("PNG", "LA", "webp", "RGBA"),
    ],
)
def test_format_override_converts_and_says_so(tmp_path, format, mode, target, expected):
    icc = ImageProfile.bytes()
    photo = load_photo(write(tmp_path / "in", image_of(mode), format, icc_profile=icc))
    notes = save_photo(photo, photo.pixels, block(), tmp_path / "out", format=target)
    assert any(mode in note and expected in note for note in notes)
    with Image.open(tmp_path / "out") as result:
        assert (result.format, result.mode) == (photos.FORMATS[target], expected)
        assert ("icc_profile" in result.info) == (mode not in ("CMYK", "LAB"))
        seen = np.asarray(result.convert("RGB")).astype(int)
    assert np.abs(seen - photo.pixels).mean() < 3


def test_jpeg_to_png_is_exact(tmp_path):
    photo = load_photo(write(tmp_path / "in.jpg", image_of("RGB"), "JPEG"))
    assert save_photo(photo, photo.pixels, block(), tmp_path / "o.png", format="PNG") == []
    assert np.array_equal(load_photo(tmp_path / "o.png").pixels, photo.pixels)


def test_animations_keep_the_first_frame_and_say_so(tmp_path):
    frames = [Image.fromarray(picture(seed=s)).quantize(32) for s in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    photo = load_photo(tmp_path / "a.gif")
    assert np.array_equal(photo.pixels, np.asarray(frames[0].convert("RGB")))
    assert any("3 frames" in note for note in photo.warnings)


def test_16_bit_colour_is_read_with_a_warning(tmp_path):
    rows = b"".join(b"\0" + struct.pack(">12H", *range(0, 60000, 5000)) for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    (tmp_path / "deep.png").write_bytes(data)
    photo = load_photo(tmp_path / "deep.png")
    assert photo.mode == "RGB" and any("16-bit" in note for note in photo.warnings)
    assert load_photo(write(tmp_path / "flat.png", image_of("RGB"), "PNG")).warnings == ()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97])
def test_truncated_files_are_errors(tmp_path, format, share):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        stream, format
    )
    data = stream.getvalue()
    (tmp_path / "cut.img").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="cut.img") as error:
        load_photo(tmp_path / "cut.img")
    assert "\n" not in str(error.value) and "0x" not in str(error.value)


def test_what_is_no_photo_is_named(tmp_path):
    (tmp_path / "notes.jpg").write_text("not a picture")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(ValueError, match=r"notes\.jpg.*no image"):
        load_photo(tmp_path / "notes.jpg")
    with pytest.raises(ValueError, match=r"phone\.heic.*convert it to JPEG"):
        load_photo(tmp_path / "phone.heic")
    with pytest.raises(FileNotFoundError, match="missing.png"):
        load_photo(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="not a file"):
        load_photo(tmp_path)


def test_decompression_bomb_is_one_line(tmp_path, monkeypatch):
    write(tmp_path / "big.png", image_of("RGB"), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"big\.png has too many pixels") as error:
        load_photo(tmp_path / "big.png")
    assert "\n" not in str(error.value)


def test_nothing_half_written_when_a_format_fails(tmp_path, monkeypatch):
    photo = load_photo(write(tmp_path / "in.png", image_of("RGB"), "PNG"))

    def fail(self, stream, *args, **options):
        stream.write(b"half")
        raise OSError("disk on fire")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ValueError, match="disk on fire"):
        save_photo(photo, photo.pixels, block(), tmp_path / "out.png")
    assert [file.name for file in tmp_path.iterdir()] == ["in.png"]


def test_wrong_arguments(tmp_path):
    photo = photo_from(picture())
    with pytest.raises(ValueError, match="bool"):
        save_photo(photo, photo.pixels, block().astype(np.uint8), tmp_path / "o.png")
    with pytest.raises(ValueError, match="uint8"):
        save_photo(photo, photo.pixels[:5], block(), tmp_path / "o.png")
    with pytest.raises(ValueError, match="webp"):
        output_format(photo, "psd")
    with pytest.raises(ValueError, match="uint8"):
        photo_from(picture().astype(np.float32))
    assert not (tmp_path / "o.png").exists()


def test_list_photos_is_recursive_sorted_and_without_doubles(tmp_path):
    for name in ("b.JPG", "a.png", "sub/c.Jpeg", "sub/notes.txt", "._a.png", "none"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [p.relative_to(tmp_path).as_posix() for p in list_photos([tmp_path])]
    assert names == ["a.png", "b.JPG", "sub/c.Jpeg"]
    given = [tmp_path / "none", tmp_path / "sub" / "c.Jpeg", tmp_path, tmp_path / "sub"]
    names = [p.relative_to(tmp_path).as_posix() for p in list_photos(given)]
    assert names == ["none", "sub/c.Jpeg", "a.png", "b.JPG"]
    with pytest.raises(FileNotFoundError, match="gone"):
        list_photos([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no photos"):
        list_photos(tmp_path / "empty")
