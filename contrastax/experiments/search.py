"""The command `contrastax search`: the examples that are nearest to a query, see `HELP`."""

from __future__ import annotations

import functools
import os
import pathlib
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from contrastax import load
from contrastax.core import UserError, check_integer
from contrastax.data.folder import printable
from contrastax.experiments import commandline
from contrastax.experiments.cache import keep_programs
from contrastax.experiments.found import Corpus, Found, draw, results_of
from contrastax.experiments.rows import Rows, digest_of, embedded, open_rows
from contrastax.experiments.vectors import read_index
from contrastax.files import new_output
from contrastax.nouns import nearest
from contrastax.pairwise import cosine, top_k
from contrastax.training.description import has_projection, read_content, shapes_of
from contrastax.training.inputs import is_image, is_text
from contrastax.training.load import FrozenEncoder

HELP = """Finds the examples of a data set that are nearest to a query, by the cosine of embeddings.

  contrastax search runs/x --data=folder:photos --query=a.jpg
  contrastax search runs/x --index=photos.npz --query=cats/12.jpg --query=b.jpg --k=20 --out=found.html
  contrastax search runs/clip --data=folder:photos --query="a cat on a sofa" --out=found.png

--query is the name of an example of the data; or else the path of an image file; or else a text, for
a run with an encoder of texts. An example is left out of its own result. If a run has encoders of
images and of texts, such as CLIP, one kind is found by the other, in the space after the projections.
--query may be given several times.

--data is embedded for each search. To search often, write the vectors once with `contrastax embed`,
as .npz or .parquet, and give this file as --index. For a search across kinds, embed with --projected.
--data or, if it can be opened, the data set that the index was made from has the pictures.

The search is exact. The names and the scores are printed. --out=FILE.html writes a page with the
pictures, which is a single file; --out=FILE.png writes an image. FILE must not exist yet.

  --k=10              the number of examples that are found
  --network=NAME      the encoder of the data, if it is not the evaluated one
  --projected         compare the vectors after the projection
  --query_network=NAME  the encoder of queries, if both encoders take the same kind of inputs, such as
                      code and its description
  --field=NAME        the field of the data, if several can be the input
  --batch_size=256    the number of examples in one call of the encoder
  --allow=MODULES     modules of your own that the encoder may use

Exit status: 0 finished; 2 invalid input, explained in one line; 130 interrupted.
"""

SHOWN = 80
"""The largest number of characters of a text that is printed."""


def main(argv: list[str]) -> int:
  """Runs one command line and returns its exit status.

  Args:
    argv: the program's name and the arguments.
  """
  try:
    return commandline.status(functools.partial(_main, argv))
  except KeyboardInterrupt:
    return 130


def _main(argv: list[str]) -> None:
  values = flags.FlagValues()
  flags.DEFINE_string("data", None, "the data set", flag_values=values)
  flags.DEFINE_string("index", None, "a file of contrastax embed", flag_values=values)
  flags.DEFINE_multi_string("query", [], "what is searched for", flag_values=values)
  flags.DEFINE_integer("k", 10, "the number of examples", flag_values=values)
  flags.DEFINE_string("out", None, "the file of the pictures", flag_values=values)
  flags.DEFINE_string("field", None, "the field of the data", flag_values=values)
  flags.DEFINE_string("query_network", None, "the encoder of queries", flag_values=values)
  flags.DEFINE_integer("batch_size", 256, "examples in one call", flag_values=values)
  commandline.define_network(values)
  if not commandline.parse_run(argv, values, HELP, required=("query",)):
    return
  if not (values.data or values.index):
    raise UserError("search needs data or an index; give --data=folder:photos")
  keep_programs()
  found = search(
    values.workdir,
    values.query,
    data=values.data,
    index=values.index,
    k=values.k,
    out=values.out,
    network=values.network,
    projected=values.projected,
    query_network=values.query_network,
    field=values.field,
    batch_size=values.batch_size,
    allow=values.allow,
  )
  for result in found:
    print(printable(result.query))
    for i, (name, score) in enumerate(zip(result.names, result.scores, strict=True)):
      of_class = f"  ({result.classes[i]})" if result.classes and result.classes[i] else ""
      text = f"  {_shortened(result.texts[i])}" if result.texts else ""
      print(f"  {score:7.4f}  {printable(name)}{of_class}{text}")
  if values.out:
    print(f"see {values.out}")


def search(
  workdir: str | os.PathLike,
  queries: str | os.PathLike | Sequence[str | os.PathLike],
  *,
  data: str | None = None,
  index: str | os.PathLike | None = None,
  k: int = 10,
  out: str | os.PathLike | None = None,
  network: str | None = None,
  projected: bool = False,
  query_network: str | None = None,
  field: str | None = None,
  batch_size: int = 256,
  allow: Collection[str] = (),
) -> list[Found]:
  """Finds the examples that are nearest to queries, exactly, by the cosine of their embeddings.

  Args:
    workdir: the folder of a run.
    queries: a query or several. Each is the name of an example of the data, or else the path of an
      image file, or else a text. An example is left out of its own result, also if its file is given
      by another path.
    data: the name of the data set that is searched, see `data.load`. None needs an index.
    index: a .npz or .parquet file of `embed_data` with the vectors of the data. None embeds the data.
    k: the number of examples that are found. If there are fewer, all are.
    out: a file for a grid of pictures, .html or .png, which must not exist yet, or None.
    network: the encoder of the data. None means the evaluated one.
    projected: whether the vectors after the projection are compared. Between images and texts they
      always are.
    query_network: the encoder of files and texts, for a run whose encoders take the same kind of
      inputs, such as code and its description. None means the encoder of the data, or the one that
      takes the query. The vectors after the projections are compared.
    field: the field of the data that is the input, or None.
    batch_size: the number of examples in one call of the encoder.
    allow: your own modules that the encoders may use.

  Returns:
    The result of each query.

  Raises:
    UserError: the run, the data, the index or a query cannot be opened, they do not fit, or the file
      exists or cannot be written.

  Example:
    >>> import contrastax
    >>> contrastax.search("runs/x", "a.jpg")
    Traceback (most recent call last):
      ...
    contrastax.core.UserError: search needs data or an index; give data="folder:photos"
  """
  if data is None and index is None:
    raise UserError('search needs data or an index; give data="folder:photos"')
  if out is not None and pathlib.Path(out).suffix.lower() not in (".html", ".png"):
    raise UserError(f"the output {out} must end with .html or .png")
  place = None if out is None else new_output(out)
  check_integer("k", k, 1)
  try:
    given = [queries] if isinstance(queries, str | os.PathLike) else queries
    texts = [os.fspath(query) for query in given]
  except TypeError:
    raise UserError(
      f"queries must be names, paths of images or texts, not {type(queries).__name__}; contrastax.load "
      "embeds arrays"
    ) from None
  if not texts:
    raise UserError("search needs a query; there are none")
  folder = pathlib.Path(workdir)
  run = load(folder, network=network, projected=projected, allow=allow)
  stored = None if index is None else read_index(pathlib.Path(index))
  rows = None if data is None else open_rows(run, data, field)
  if rows is None and stored is not None:
    rows = _pictured(run, stored.about)
  names = stored.names if stored is not None else rows.names if rows else ()
  position = {name: i for i, name in enumerate(names)}
  other = query_network or _other_kind(folder, run, [q for q in texts if q not in position])
  if other is not None and not projected:
    projected = has_projection(read_content(folder), run.network)
    run = load(folder, network=network, projected=projected, allow=allow)
  if stored is not None:
    _check_index(index, stored.about, run, projected)
    corpus = Corpus(stored.vectors.astype(np.float32), stored.names, stored.classes, rows)
  else:
    assert rows is not None
    parts = [vectors for _, vectors in embedded(run, rows.parts(batch_size), batch_size)]
    corpus = Corpus(np.concatenate(parts), rows.names, rows.class_names(), rows)
  encoders = [run] if query_network is None else []
  encoders += [] if other is None else [_tower(folder, other, allow)]
  vectors, excluded = _query_vectors(texts, corpus, position, encoders)
  count = min(k, len(corpus.names))
  scores, found = top_k(vectors, corpus.vectors, count, score=cosine(), exclude=excluded)
  results = results_of(
    texts, np.asarray(scores), np.asarray(found), corpus, texts=is_text(run.inputs)
  )
  if place is not None:
    draw(place, results, corpus, position)
  return results


def _query_vectors(
  queries: Sequence[str],
  corpus: Corpus,
  position: Mapping[str, int],
  encoders: Sequence[FrozenEncoder],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the vectors of the queries, and the position of each in the data or −1."""
  vectors, excluded = [], []
  for query in queries:
    excluded.append(_place_of(query, corpus, position))
    if query in position:
      vectors.append(corpus.vectors[position[query]])
      continue
    kind = is_image if os.path.isfile(query) else is_text
    fitting = [encoder for encoder in encoders if kind(encoder.inputs)]
    if not fitting:
      raise _unknown(query, position, [encoder.inputs for encoder in encoders])
    vectors.append(fitting[0](query))
  return np.stack(vectors), np.array(excluded)


def _place_of(query: str, corpus: Corpus, position: Mapping[str, int]) -> int:
  """Returns the number of the example that a query is: by its name, or by the content of its file.

  The result is −1 if the query is none of the examples. Of several examples with this content, one
  whose name ends the path is preferred.
  """
  if query in position:
    return position[query]
  if corpus.rows is None or not os.path.isfile(query):
    return -1
  path = pathlib.Path(query)
  names = [corpus.rows.names[i] for i in corpus.rows.with_content(path.read_bytes())]
  known = [name for name in names if name in position]
  return position[max(known, key=str(path.resolve()).endswith)] if known else -1


def _other_kind(folder: pathlib.Path, run: FrozenEncoder, queries: Sequence[str]) -> str | None:
  """Returns the name of the encoder of queries that the encoder of the data cannot take, or None.

  Args:
    folder: the folder of the run.
    run: the encoder of the data.
    queries: files and texts.
  """
  kinds = {is_image if os.path.isfile(query) else is_text for query in queries}
  missing = [kind for kind in kinds if not kind(run.inputs)]
  if not missing:
    return None
  content = read_content(folder)
  described = {content.get("network"): content, **(content.get("networks") or {})}
  for name, entry in described.items():
    if name != run.network and "inputs" in entry and missing[0](shapes_of(entry["inputs"])):
      return name
  return None


def _tower(folder: pathlib.Path, name: str, allow: Collection[str]) -> FrozenEncoder:
  """Loads an encoder with its projection, if it has one."""
  projected = has_projection(read_content(folder), name)
  return load(folder, network=name, projected=projected, allow=allow)


def _unknown(query: str, names: Mapping[str, int], inputs: Sequence[Any]) -> UserError:
  kinds = [
    kind
    for test, kind in ((is_image, "the path of an image"), (is_text, "a text"))
    if any(map(test, inputs))
  ]
  taken = " or ".join(["the name of an example of the data", *kinds])
  close = nearest(query, names) if names else ""
  if "did you mean" in close:
    fix = close
  elif os.path.isfile(query):
    fix = "; it is a file, so it needs a run with an encoder of images"
  else:
    example = next(iter(names), "")
    fix = f"; there is no such file; the first name is {printable(example)!r}"
    if not any(map(is_text, inputs)):
      fix += "; a text needs a run with an encoder of texts, such as one of CLIP"
  return UserError(f"the query {printable(query)!r} is not {taken}{fix}")


def _shortened(text: str) -> str:
  """Returns the start of a text in one line that a terminal can print."""
  line = printable(" ".join(text.split()))
  return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"


def _check_index(path: Any, about: Mapping[str, Any], run: FrozenEncoder, projected: bool) -> None:
  if about.get("encoder") == digest_of(run):
    return
  space = "the vectors after the projection" if projected else "this encoder"
  fix = " --projected" if projected else ""
  raise UserError(
    f"the index {path} is not of {space} at step {run.step}; write it again: contrastax embed … "
    f"--out={path}{fix}"
  )


def _pictured(run: FrozenEncoder, about: Mapping[str, Any]) -> Rows | None:
  """Opens the data set that an index was made from; None if it cannot be opened."""
  try:
    return open_rows(run, str(about.get("data")), about.get("field"))
  except (UserError, OSError) as error:
    print(f"no pictures: {error}", file=sys.stderr)
    return None
