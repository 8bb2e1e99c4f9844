"""Image files become arrays by one rule."""

import struct
import zlib

import numpy as np
import pytest
from images_on_disk import content, picture
from PIL import Image

from contrastax.data.decode import MOST_PIXELS, NotDecoded, decode, open_image

SHAPE = (30, 40, 3)
PICTURE = picture(1)
PIXELS = np.asarray(PICTURE)
GRAY = np.asarray(PICTURE.convert("L"))


def exif(orientation):
  tags = Image.Exif()
  tags[0x0112] = orientation
  return tags


def palette_with_transparency():
  image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
  image.putpalette([255, 0, 0, 0, 0, 255])
  return content(image, "PNG", transparency=1)


EXACT = {
  "png": (content(PICTURE, "PNG"), PIXELS),
  "bmp": (content(PICTURE, "BMP"), PIXELS),
  "tiff": (content(PICTURE, "TIFF"), PIXELS),
  "webp": (content(PICTURE, "WEBP", lossless=True), PIXELS),
  "gray": (content(PICTURE.convert("L"), "PNG"), np.repeat(GRAY[..., None], 3, -1)),
  "16 bits": (
    content(Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"),
    np.repeat(GRAY[..., None], 3, -1),
  ),
  "16 bits, tiff": (
    content(Image.fromarray(GRAY.astype(np.uint16) * 257), "TIFF"),
    np.repeat(GRAY[..., None], 3, -1),
  ),
  "rotated": (
    content(PICTURE.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif(6)),
    PIXELS,
  ),
  "opaque": (content(PICTURE.convert("RGBA"), "PNG"), PIXELS),
  "transparent": (content(Image.new("RGBA", (40, 30), (9, 9, 9, 0)), "PNG"), np.full(SHAPE, 255)),
  "first frame": (
    content(
      PICTURE, "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (40, 30))]
    ),
    PIXELS,
  ),
}


@pytest.mark.parametrize("case", EXACT)
def test_pixels_are_exact_where_the_format_is(case):
  data, expected = EXACT[case]
  np.testing.assert_array_equal(decode(data, SHAPE), expected)


LOSSY = {
  "jpeg": content(PICTURE, "JPEG", quality=95),
  "cmyk": content(PICTURE.convert("CMYK"), "JPEG", quality=95),
  "rotated": content(
    PICTURE.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif(6)
  ),
  "gif": content(PICTURE.quantize(256), "GIF"),
  "palette": content(PICTURE.quantize(256), "PNG"),
}


@pytest.mark.parametrize("case", LOSSY)
def test_pixels_are_close_where_the_format_is_lossy(case):
  difference = np.abs(decode(LOSSY[case], SHAPE).astype(int) - PIXELS)
  assert difference.mean() < 4 and difference.max() < 48


def test_a_transparent_color_of_a_palette_is_white():
  expected = [[[255, 0, 0], [255, 255, 255]], [[255, 255, 255], [255, 0, 0]]]
  np.testing.assert_array_equal(decode(palette_with_transparency(), (2, 2, 3)), expected)


def png_16_bits(pixels, transparent):
  """A PNG file of 16 bits per channel, with a transparent color. Pillow cannot write all of these."""

  def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

  height, width, channels = pixels.shape
  header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
  rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
  return b"".join(
    [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header),
     chunk(b"tRNS", struct.pack(f">{channels}H", *transparent)),
     chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
  )  # fmt: skip


@pytest.mark.parametrize("transparent", [(40_000,), (40_000, 3_000, 5)])
def test_a_transparent_color_of_16_bits_is_white(transparent):
  pixels = np.full((2, 2, len(transparent)), 257 * 10)
  pixels[0, 0] = transparent
  image = decode(png_16_bits(pixels, transparent), (2, 2, 3))
  np.testing.assert_array_equal(image[0, 0], [255] * 3)
  np.testing.assert_array_equal(image[1], np.full((2, 3), 10))


def test_a_rotated_photo_with_odd_exif_entries_is_decoded():
  """Pillow reads the entry Software of the type rational, but cannot write it again."""
  entries = [(0x0112, 3, 1, struct.pack("<HH", 6, 0)), (0x0131, 5, 1, struct.pack("<I", 38))]
  tags = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
  ifd = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + struct.pack("<III", 0, 1, 3)
  photo = PICTURE.transpose(Image.Transpose.ROTATE_90)
  decoded = decode(content(photo, "JPEG", quality=95, exif=b"Exif\0\0" + ifd), SHAPE)
  assert np.abs(decoded.astype(int) - PIXELS).mean() < 4


def test_an_image_that_the_caller_has_opened_is_not_changed(tmp_path):
  picture(2, 1600, 1200).save(tmp_path / "x.jpg")
  with Image.open(tmp_path / "x.jpg") as image:
    decode(image, (8, 8, 3))
    assert image.size == (1600, 1200)


def test_one_channel_is_the_luma():
  red, green, blue = np.moveaxis(PIXELS.astype(float), -1, 0)
  luma = 0.299 * red + 0.587 * green + 0.114 * blue
  gray = decode(content(PICTURE, "PNG"), (30, 40, 1))[..., 0]
  np.testing.assert_allclose(gray, luma, atol=1)


def test_the_center_is_cut_and_resized():
  """The left and right fifths are black; the center square is gray. Its border is antialiased."""
  pixels = np.zeros((60, 100, 3), np.uint8)
  pixels[:, 20:80] = 200
  square = decode(content(Image.fromarray(pixels), "PNG"), (15, 15, 3))
  np.testing.assert_array_equal(square[:, 1:-1], np.full((15, 13, 3), 200))
  assert square.min() > 150


def test_a_large_jpeg_is_the_same_as_the_same_pixels_in_png():
  image = picture(2, 1600, 1200)
  jpeg, png = (decode(content(image, kind), (32, 32, 3)) for kind in ("JPEG", "PNG"))
  assert np.abs(jpeg.astype(int) - png).mean() < 2


BROKEN = {
  "empty": (b"", "the file is empty"),
  "text": (b"not an image", "the file is not an image of a known format"),
  "truncated jpeg": (content(picture(1, 300, 200), "JPEG")[:2000], "the file is truncated"),
  "truncated png": (content(picture(1, 300, 200), "PNG")[:2000], "the file is truncated"),
  "32 bits": (
    content(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    "the pixels have 32 bits, whose scale is unknown",
  ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_has_a_reason(case):
  data, reason = BROKEN[case]
  with pytest.raises(NotDecoded) as error:
    decode(data, SHAPE)
  assert str(error.value) == reason


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_before_it_is_decoded():
  bomb = content(Image.new("1", (10_000, MOST_PIXELS // 10_000 + 1)), "PNG")
  assert len(bomb) < 100_000
  with pytest.raises(NotDecoded, match="pixels"):
    open_image(bomb)


def test_a_missing_file_has_a_reason(tmp_path):
  with pytest.raises(NotDecoded, match="no such file"):
    decode(tmp_path / "nowhere.png", SHAPE)
