"""Photo files: every mode, orientation and damage."""

import io
import struct
import zlib

import numpy as np
import pytest
from photo_files import FILES, ImageProfile, block, image_of, picture, write
from PIL import Image

from messi_lib import photos
from messi_lib.photos import list_photos, load_photo, output_format, photo_from, save_photo


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
