"""The command `contrastax embed`: the embeddings of a data set as a file, see `HELP`."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from contrastax import load
from contrastax.core import UserError, check_integer
from contrastax.experiments import commandline
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.rows import Part, content_of, digest_of, embedded, open_rows
from contrastax.experiments.vectors import SUFFIXES, write_vectors
from contrastax.files import new_output, write_bytes, writing
from contrastax.training.load import FrozenEncoder

HELP = """Embeds a data set and writes the vectors to a file.

  contrastax embed runs/x --data=folder:photos --out=photos.parquet
  contrastax embed runs/x --data=folder:photos --out=photos.npz --dtype=float16
  contrastax embed runs/x --data=csv:table.csv --out=vectors.csv --field=picture
  contrastax embed runs/clip --data=jsonl:captions.jsonl --out=texts.npz --network=other_encoder --projected

--data is any name of a data set, see docs/data.md. Images are decoded to the size that the encoder
takes; files that cannot be decoded are listed and left out. --out must not exist yet. Each row of the
file has the name of the example (the path of its file, else its number), `split` if the data have
several, `label` and `class` if the classes are known, and `vector`, in the order of the data. A csv
file has a column for each number of the vector.

Vectors are computed in parts, which are kept beside the file until it is complete. After an
interruption the same command continues. A finished part is used only if the encoder, the options and
the examples of the part are the same. Memory does not grow with the number of examples.

  --dtype=float32     or float16
  --batch_size=256    the number of examples in one call of the encoder
  --network=NAME      another encoder of the run, such as other_encoder of CLIP
  --projected         the vectors after the projection, which the loss compared
  --field=NAME        the field of the data, if several can be the input
  --allow=MODULES     modules of your own that the encoder may use

Exit status: 0 finished; 2 invalid input, explained in one line; 130 interrupted.
"""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the arguments.
  """
  try:
    return commandline.status(functools.partial(_main, argv))
  except KeyboardInterrupt:
    print("stopped; the same command continues", file=sys.stderr)
    return 130


def _main(argv: list[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("data", None, "the data set", flag_values=values)
  flags.DEFINE_string("out", None, "the file of the vectors", flag_values=values)
  flags.DEFINE_string("dtype", "float32", "the type of the vectors", flag_values=values)
  flags.DEFINE_integer("batch_size", 256, "examples in one call", flag_values=values)
  flags.DEFINE_string("field", None, "the field of the data", flag_values=values)
  commandline.define_network(values)
  if not commandline.parse_run(argv, values, HELP, required=("data", "out")):
    return
  keep_programs()
  run = load(values.workdir, network=values.network, projected=values.projected, allow=values.allow)
  embed_data(
    run,
    values.data,
    values.out,
    field=values.field,
    dtype=values.dtype,
    batch_size=values.batch_size,
    print_line=print,
  )


def embed_data(
  run: FrozenEncoder | str | os.PathLike,
  name: str,
  out: str | os.PathLike,
  *,
  field: str | None = None,
  dtype: str = "float32",
  batch_size: int = 256,
  allow: Collection[str] = (),
  print_line: Any = None,
) -> pathlib.Path:
  """Embeds a data set and writes the vectors to a file, as the command `contrastax embed` does.

  Args:
    run: the folder of a run, or the result of `contrastax.load`.
    name: the name of the data set, see `data.load`.
    out: the file, which must not exist yet: .parquet, .npz or .csv.
    field: the field of the data that is the input. None means the field that the run was trained on,
      or the only one that fits.
    dtype: "float32" or "float16".
    batch_size: the number of examples in one call of the encoder.
    allow: your own modules that the encoder may use, if `run` is a folder.
    print_line: a function that is called with a line about the result, such as `print`, or None.

  Returns:
    The path of the file.

  Raises:
    UserError: the run or the data set cannot be opened, an argument is invalid, or the file exists,
      cannot be written, or is being written by another process.

  Example:
    >>> import contrastax
    >>> contrastax.embed_data("runs/x", "folder:photos", "photos.pdf")
    Traceback (most recent call last):
      ...
    contrastax.core.UserError: the output photos.pdf must end with .parquet, .npz or .csv
  """
  path = pathlib.Path(out).expanduser()
  if path.suffix.lower() not in SUFFIXES:
    raise UserError(f"the output {out} must end with {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
  if path.is_dir():
    raise UserError(f"the output {out} is a folder; give a file")
  source = str(name).removeprefix("words:").partition(":")[2]
  if path.resolve() == pathlib.Path(source).expanduser().resolve():
    raise UserError(f"the output {out} is the data; give another file")
  new_output(out)
  if dtype not in ("float32", "float16"):
    raise UserError(f"dtype must be 'float32' or 'float16', not {dtype!r}")
  check_integer("batch_size", batch_size, 1)
  if not isinstance(run, FrozenEncoder):
    run = load(run, allow=allow)
  rows = open_rows(run, name, field)
  with _kept_parts(path, out) as folder:
    parts, digest, kind = rows.parts(batch_size), digest_of(run), np.dtype(dtype)
    options = f"{digest} {dtype} {batch_size} {jax.__version__} {jax.default_backend()}"
    files = [folder / f"{_code(options, part)}.npy" for part in parts]
    new = [part for part, file in zip(parts, files, strict=True) if not file.exists()]
    start, todo = time.perf_counter(), sum(map(_count, new))
    by_start = {part.start: file for part, file in zip(parts, files, strict=True)}
    progress = tqdm(
      total=len(rows), initial=len(rows) - todo, desc="embedding", unit=" examples", delay=1
    )
    with progress:
      for part, vectors in embedded(run, new, batch_size):
        content = _npy(vectors, kind)
        with writing(out):
          write_bytes(by_start[part.start], content)
        progress.update(len(vectors))
    seconds = time.perf_counter() - start
    width = np.load(files[0], mmap_mode="r").shape[1]
    columns: dict[str, Any] = {"name": rows.names}
    columns |= {"split": split} if (split := rows.split_names()) else {}
    if rows.label is not None:
      columns |= {"label": rows.label, "class": rows.class_names()}
    about = {"encoder": digest, "step": run.step, "data": name, "field": field}
    readers = [functools.partial(np.load, file, allow_pickle=False) for file in files]
    with writing(out):
      write_vectors(path, columns, readers, (len(rows), width), kind, about)
  if print_line is not None:
    reused = (
      f", {len(rows) - todo:,} of them from the interrupted command" if todo < len(rows) else ""
    )
    print_line(
      f"{path}: {len(rows):,} vectors of {width} numbers, {dtype}{reused}; "
      f"{todo / max(seconds, 1e-9):,.0f} examples/s"
    )
  return path


@contextlib.contextmanager
def _kept_parts(path: pathlib.Path, out: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Returns the folder of the finished parts of a file. It is removed when the file is complete.

  Args:
    path: the file.
    out: the file as the user gave it, for messages.
  """
  folder = path.with_name(f".{path.name}.parts")
  with writing(out):
    path.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    opened = open(folder / "lock", "w")  # noqa: SIM115
  with opened as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        f"{out} is being written by another process; wait, or give another --out"
      ) from None
    yield folder
    shutil.rmtree(folder)


def _code(options: str, part: Part) -> str:
  return hashlib.sha256(options.encode() + content_of(part.inputs)).hexdigest()[:32]


def _count(part: Part) -> int:
  return len(jax.tree.leaves(part.inputs)[0])


def _npy(vectors: np.ndarray, dtype: np.dtype) -> bytes:
  with np.errstate(over="ignore"):
    converted = vectors.astype(dtype)
  if np.isfinite(vectors).all() and not np.isfinite(converted).all():
    raise UserError(
      f"the vectors have values up to {np.abs(vectors).max():.4g}, which float16 cannot contain; use "
      "float32"
    )
  buffer = io.BytesIO()
  np.save(buffer, converted)
  return buffer.getvalue()
