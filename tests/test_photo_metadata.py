"""What a photo file says beside its pixels: EXIF, colour profile, texts, and our own note."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import ImageProfile, block, image_of, write
from PIL import Image, ImageOps

from messi_lib import photos
from messi_lib.photos import load_photo, save_photo


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
