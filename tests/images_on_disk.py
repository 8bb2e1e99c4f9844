"""Image files of every kind for tests, written by Pillow."""

import io
import pathlib

import numpy as np
from PIL import Image


def picture(seed: int, width: int = 40, height: int = 30) -> Image.Image:
  """A smooth color image, so that lossy formats change it little."""
  y, x = np.mgrid[0:height, 0:width] / max(width, height)
  waves = [np.sin(6 * (x * (seed % 3 + 1) + shift)) * np.cos(4 * y) for shift in (0, 1, 2)]
  return Image.fromarray((np.stack(waves, -1) * 100 + 128).astype(np.uint8))


def content(image: Image.Image, kind: str, **options) -> bytes:
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def write(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
  for name, data in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
  return root


def two_classes(root: pathlib.Path, count: int = 12) -> pathlib.Path:
  """A folder of PNG files in the subfolders `a` and `b`, with images of several sizes."""
  files = {
    f"{'ab'[i % 2]}/{i:03d}.png": content(picture(i, 20 + i, 24), "PNG") for i in range(count)
  }
  return write(root, files)
