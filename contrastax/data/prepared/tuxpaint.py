"""The data set `tuxpaint`: the stamps of Tux Paint, with captions and human speech."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from contrastax.core import UserError
from contrastax.data.dataset import Dataset, divide, encode_texts
from contrastax.data.prepared.files import Preparation
from contrastax.data.prepared.packages import debian
from contrastax.data.splits import frequent_classes, one_in

SIZE = 64
RATE, SECONDS = 16_000, 3
HELD_OUT = 6  # One caption in so many is a caption of the test examples.
LEAST = 10
LANGUAGE = "fr"  # The language with the most recordings.


def fetch(folder: pathlib.Path) -> dict[str, str]:
  """Downloads the stamps into a folder, 161 MB.

  Raises:
    UserError: soundfile is not installed, or the download fails.
  """
  _soundfile()  # before the download
  return debian("tuxpaint-stamps-default")(folder)


def read(folder: pathlib.Path) -> Dataset:
  """Reads the data set from the unpacked package.

  The fields:

  - `image` [n, 64, 64, 3] uint8: the stamp on white, shrunk to fit and centered.
  - `text` [n, length] uint8: its caption in English.
  - `text_fr` [n, length] uint8: its caption in French, or zeros.
  - `speech` [n, 48000] int16: a person who reads the French caption, at 16,000 samples per second
    in one channel. It is cut to 3 seconds, or followed by zeros.
  - `speech_length` [n] int32: the number of samples before these zeros; 0 if there is no recording.
  - `label` [n] int32: the folder of the stamp, such as "animals". A folder with fewer than 10
    training examples is no class.

  A checksum of the English caption chooses one in six, whose stamps are test examples. So stamps
  with the same caption are in the same split. Stamps that are drawn as SVG are left out.

  Args:
    folder: the folder with the files of the package.
  """
  stamps = folder / "usr" / "share" / "tuxpaint" / "stamps"
  paths = [path for path in sorted(stamps.rglob("*.png")) if path.with_suffix(".txt").exists()]
  if not paths:
    raise UserError("the package tuxpaint-stamps-default has no stamps; it may have changed")
  captions = [captions_of(path.with_suffix(".txt").read_text(encoding="utf-8")) for path in paths]
  texts = [each["en"] for each in captions]
  held_out = one_in(HELD_OUT, texts)
  kinds = [path.relative_to(stamps).parts[0] for path in paths]
  label, classes = frequent_classes(kinds, held_out, LEAST)
  speech = np.zeros((len(paths), RATE * SECONDS), np.int16)
  lengths = np.zeros(len(paths), np.int32)
  for i, path in enumerate(paths):
    recording = path.with_name(f"{path.stem}_desc_{LANGUAGE}.ogg")
    if recording.exists():
      samples = waveform(recording)[: RATE * SECONDS]
      speech[i, : len(samples)], lengths[i] = samples, len(samples)
  arrays = {
    "image": np.stack([drawn(path) for path in paths]),
    "text": encode_texts(texts),
    f"text_{LANGUAGE}": encode_texts([each.get(LANGUAGE, "") for each in captions]),
    "speech": speech,
    "speech_length": lengths,
    "label": label,
  }
  return divide(arrays, held_out, classes)


def captions_of(text: str) -> dict[str, str]:
  """Returns {language: caption} of a stamp's file, whose first line is English.

  Args:
    text: the content of the file. Its other lines are such as `fr.utf8=Un chamois.`
  """
  first, *others = text.splitlines() or [""]
  captions = {"en": first.strip()}
  for line in others:
    language, separator, caption = line.partition(".utf8=")
    if separator:
      captions[language] = caption.strip()
  return captions


def drawn(path: pathlib.Path) -> np.ndarray:
  """Returns a stamp on a white square, [64, 64, 3] uint8."""
  from PIL import Image

  with Image.open(path) as file:
    stamp = file.convert("RGBA")
  stamp.thumbnail((SIZE, SIZE))
  canvas = Image.new("RGB", (SIZE, SIZE), "white")
  canvas.paste(stamp, ((SIZE - stamp.width) // 2, (SIZE - stamp.height) // 2), stamp)
  return np.asarray(canvas)


def waveform(path: pathlib.Path) -> np.ndarray:
  """Returns a recording at `RATE` samples per second in one channel, [length] int16."""
  from scipy.signal import resample_poly

  samples, rate = _soundfile().read(str(path), dtype="float32", always_2d=True)
  samples = resample_poly(samples.mean(1), RATE, rate)
  return np.round(32767 * np.clip(samples, -1, 1)).astype(np.int16)


def _soundfile() -> Any:
  try:
    import soundfile
  except (ImportError, OSError):  # OSError: the wheel has no library for this system
    raise UserError(
      "tuxpaint has recordings, which soundfile decodes; run: pip install 'contrastax[audio]'"
    ) from None
  return soundfile


TUXPAINT = Preparation(fetch, read, "GNU GPL 2")
