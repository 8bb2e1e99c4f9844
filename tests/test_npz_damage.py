"""A damaged, hostile or oversized source of images is one line."""

import io
import random
import zipfile

import numpy as np
import pytest

from contrastax import data
from contrastax.core import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 1), np.uint8)


def npz(save=np.savez):
  file = io.BytesIO()
  save(file, image=IMAGES, label=np.arange(40) % 4)
  return file.getvalue()


def encrypted():
  """The flag that says so, set in the local header and in the directory of each member."""
  content = bytearray(npz())
  for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    start = content.find(mark)
    while start >= 0:
      content[start + place] |= 1
      start = content.find(mark, start + 1)
  return bytes(content)


def method():
  """Compressed in a way that Python cannot read."""
  content = bytearray(npz(np.savez_compressed))
  for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
    start = content.find(mark)
    while start >= 0:
      content[start + place] = 99
      start = content.find(mark, start + 1)
  return bytes(content)


def declared(*shape):
  """An array whose header states a shape that is not there."""
  header, file = io.BytesIO(), io.BytesIO()
  fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(header, fields)
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("image.npy", header.getvalue() + b"0" * 100)
  return file.getvalue()


FILES = {
  "empty": b"",
  "text": b"image",
  "truncated": npz()[:1000],
  "encrypted": encrypted(),
  "a method that Python lacks": method(),
  "64 TB": declared(10**6, 8000, 8000, 1),
  "more than there is": declared(400, 6, 6, 1),
  "beyond 64 bits": declared(10**30, 6, 6, 1),
  "negative": declared(-4, 6, 6, 1),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_npz_of_arrays_is_one_line(tmp_path, kind):
  (tmp_path / "images.npz").write_bytes(FILES[kind])
  with pytest.raises(
    UserError, match="images.npz (is not|cannot be read|declares|has arrays that do not fit)"
  ) as error:
    data.load(f"npz:{tmp_path}/images.npz")
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bits_are_one_line_or_in_no_array(tmp_path, save):
  content, rng, refused = npz(save), random.Random(0), 0
  path = tmp_path / "images.npz"
  for _ in range(200):
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    path.write_bytes(damaged)
    try:
      found = data.load(f"npz:{path}")
    except UserError as error:
      assert "\n" not in str(error)
      refused += 1
    else:
      together = np.concatenate([found.train["image"], found.test["image"]])
      assert np.sort(together, axis=0).tobytes() == np.sort(IMAGES, axis=0).tobytes()
  assert refused > 50


SHAPES = ["99999x99999x3", "4097x4096x1", "8x8", "0x8x1", "-8x8x1", "²x8x1", "٣x8x1", "8x8x1x1",
          "9" * 5000 + "x1x1", "8.0x8x1", " 8x8x1", "8x8x1\n"]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_a_made_shape_that_is_none_or_too_large_is_one_line(shape):
  with pytest.raises(UserError, match="(?s)made:.* is (too large|not a shape)"):
    data.load(f"made:{shape}")
