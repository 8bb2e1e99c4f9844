"""The command `contrastax search`: exact neighbors, of files, names and texts, and the grid."""

import collections
import errno
import io
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_run import made_run, write_photos
from PIL import Image

import contrastax
from contrastax.experiments import found as found_module
from contrastax.experiments.search import main
from contrastax.reporting.grid import Answer, Cell, to_html, to_png


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  return made_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, run, photos):
  """Files of the vectors before and after the projection."""
  folder = tmp_path_factory.mktemp("index")
  for projected, name in ((False, "plain.npz"), (True, "projected.parquet")):
    encode = contrastax.load(run, projected=projected)
    contrastax.embed_data(encode, f"folder:{photos}", folder / name)
  return folder


@pytest.fixture(scope="module")
def files(photos):
  return {str(path.relative_to(photos)): path for path in photos.rglob("é*")}


def ranked(query, corpus, names, leave_out=None):
  """(names, cosines) of a corpus, nearest first."""
  unit = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (np.float64(corpus), query)]
  cosines = unit[0] @ unit[1]
  order = [i for i in np.argsort(-cosines) if names[i] != leave_out]
  return [names[i] for i in order], cosines[order]


@pytest.mark.parametrize("source", ["data", "index"])
@pytest.mark.parametrize("kind", ["a file", "a name", "another file"])
def test_the_neighbors_are_exact(tmp_path, run, photos, indexes, files, source, kind):
  """An example is left out of its own result, also if its file is given by another path."""
  encode, names = contrastax.load(run), list(files)
  where = {"data": f"folder:{photos}"} if source == "data" else {"index": indexes / "plain.npz"}
  name = names[3]
  query = name if kind == "a name" else str(files[name])
  if kind == "another file":  # the same pixels in a file with other bytes
    query = str(tmp_path / "other.png")
    Image.open(files[name]).save(query, compress_level=0)
  (found,) = contrastax.search(run, query, k=4, **where)
  own = None if kind == "another file" else name
  expected, cosines = ranked(encode(files[name]), encode([*files.values()]), names, own)
  assert list(found.names) == expected[:4]
  np.testing.assert_allclose(found.scores, cosines[:4], rtol=1e-4, atol=1e-5)
  if own is None:
    assert found.names[0] == name
  assert found.classes == tuple(each.split("/")[0] for each in found.names)


@pytest.mark.parametrize("source", ["data", "index"])
def test_a_text_finds_images_after_the_projections(run, photos, indexes, files, source):
  where = {"data": f"folder:{photos}"}
  if source == "index":
    where = {"index": indexes / "projected.parquet"}
  (found,) = contrastax.search(run, "a cat", k=3, **where)
  query = contrastax.load(run, network="other_encoder", projected=True)("a cat")
  corpus = contrastax.load(run, projected=True)([*files.values()])
  expected, cosines = ranked(query, corpus, list(files))
  assert list(found.names) == expected[:3]
  np.testing.assert_allclose(found.scores, cosines[:3], rtol=1e-4, atol=1e-5)


def test_an_image_finds_texts(tmp_path, run, files):
  texts = ["a cat", "two dogs", "né"]
  np.savez(tmp_path / "texts.npz", text=np.array(texts))
  path = next(iter(files.values()))
  data = f"npz:{tmp_path}/texts.npz"
  (found,) = contrastax.search(run, str(path), data=data, k=2, network="other_encoder")
  corpus = contrastax.load(run, network="other_encoder", projected=True)(texts)
  query = contrastax.load(run, projected=True)(path)
  assert list(found.names) == ranked(query, corpus, ["0", "1", "2"])[0][:2]
  assert found.texts == tuple(texts[int(name)] for name in found.names)
  (found,) = contrastax.search(run, "a cat", data=data, k=1, network="other_encoder")
  assert found.names == ("0",) and found.texts == ("a cat",)


def test_found_texts_are_printed_in_one_line(tmp_path, run, capsys):
  np.savez(tmp_path / "texts.npz", text=np.array(["a\n\x1b[31mcat", "two dogs"]))
  options = [f"--data=npz:{tmp_path}/texts.npz", "--network=other_encoder", "--query=a cat"]
  assert main(["contrastax search", str(run), *options]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3 and lines[0] == "a cat"
  assert {line.split(maxsplit=2)[2] for line in lines[1:]} == {r"a \x1b[31mcat", "two dogs"}


def test_of_two_copies_the_one_at_the_path_of_the_query_is_left_out(tmp_path, run):
  photos = write_photos(tmp_path / "photos", 4)
  path = sorted(photos.rglob("é*"))[0]
  copies = [path.with_name(name) for name in ("a.png", "z.png")]
  for copy in copies:
    copy.write_bytes(path.read_bytes())
  for own in (path, *copies):
    (found,) = contrastax.search(run, str(own), data=f"folder:{photos}", k=2)
    others = {str(each.relative_to(photos)) for each in (path, *copies) if each != own}
    assert set(found.names) == others


def test_no_file_is_overwritten(tmp_path, run, capsys):
  out = tmp_path / "found.html"
  out.write_text("old")
  options = ["--data=digits", "--query=0", f"--out={out}"]
  assert main(["contrastax search", str(run), *options]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line == f"error: the output {out} already exists; choose another --out, or remove it"
  assert out.read_text() == "old"


def test_an_output_that_cannot_be_written_is_named(
  tmp_path, run, photos, files, monkeypatch, capsys
):
  def fail(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(found_module, "write_bytes", fail)
  options = [f"--data=folder:{photos}", f"--query={next(iter(files))}", f"--out={tmp_path}/x.html"]
  assert main(["contrastax search", str(run), *options]) == 2
  line = capsys.readouterr().err.splitlines()[-1]
  assert line.startswith(f"error: the output {tmp_path}/x.html cannot be written: the disk is full")


def test_the_encoder_of_queries_can_be_chosen(run, photos, files):
  """Here it is a text that is compared in the space after the projections, as without the choice."""
  options = {"data": f"folder:{photos}", "k": 3}
  chosen = contrastax.search(run, "a cat", query_network="other_encoder", **options)
  assert chosen == contrastax.search(run, "a cat", **options)
  name = next(iter(files))
  path = str(files[name])
  (found,) = contrastax.search(run, path, query_network="encoder", **options)
  corpus = contrastax.load(run, projected=True)([*files.values()])
  query = contrastax.load(run, projected=True)(path)
  assert list(found.names) == ranked(query, corpus, list(files), name)[0][:3]
  with pytest.raises(contrastax.UserError, match="is not the name of an example"):
    contrastax.search(run, path, query_network="other_encoder", **options)


def test_several_queries_and_k_beyond_the_data(run, photos, files):
  queries = [*list(files)[:2], str(next(iter(files.values())))]
  found = contrastax.search(run, queries, data=f"folder:{photos}", k=99)
  assert [len(each.names) for each in found] == [9, 9, 9]  # each is left out of its own result
  assert [each.query for each in found] == queries


def test_queries_of_other_types(run, photos, files):
  data, path = f"folder:{photos}", next(iter(files.values()))
  assert contrastax.search(run, path, data=data) == contrastax.search(run, str(path), data=data)
  for wrong in (np.zeros((8, 8, 3)), [], 5):
    with pytest.raises(contrastax.UserError, match="quer"):
      contrastax.search(run, wrong, data=data)


def test_the_command_prints_names_and_writes_a_page(tmp_path, run, photos, indexes, files, capsys):
  name = next(iter(files))
  arguments = [
    "contrastax search",
    str(run),
    f"--query={name}",
    "--query=a <b>cat</b> & dog",
    "--k=3",
  ]
  arguments += [f"--index={indexes}/projected.parquet", "--projected"]
  assert main([*arguments, f"--out={tmp_path}/new/x.html"]) == 0
  printed = capsys.readouterr().out
  assert printed.splitlines()[0] == name and "(dogs)" in printed
  page = (tmp_path / "new" / "x.html").read_text()
  assert page.count('src="data:image/jpeg;base64,') == 7  # one query and 2 · 3 hits
  assert "<b>" not in page and "a &lt;b&gt;cat&lt;/b&gt; &amp; dog" in page
  assert not re.search(r"<script|src=\"(?!data:)|href=\"(?!#)", page)
  assert main([*arguments, f"--out={tmp_path}/x.png"]) == 0
  assert Image.open(tmp_path / "x.png").size[0] > 500


def test_without_the_data_there_are_names_only(tmp_path, run, capsys):
  photos = write_photos(tmp_path / "photos", 5)
  contrastax.embed_data(run, f"folder:{photos}", tmp_path / "x.npz")
  query = str(next(iter(photos.rglob("é*"))).rename(tmp_path / "query.png"))
  photos.rename(tmp_path / "moved")
  options = [f"--index={tmp_path}/x.npz", f"--query={query}", f"--out={tmp_path}/x.html"]
  assert main(["contrastax search", str(run), *options]) == 0
  assert "no pictures: there is no folder" in capsys.readouterr().err
  page = (tmp_path / "x.html").read_text()
  assert page.count("<li class") == 6 and page.count("data:image") == 1


WRONG = {
  "no query": (["--data=digits"], "--query is required"),
  "no data": (["--query=a"], "needs data or an index; give --data=folder:photos"),
  "k": (["--data=digits", "--query=0", "--k=0"], "k must be at least 1, not 0"),
  "out": (["--data=digits", "--query=0", "--out=x.pdf"], "must end with .html or .png"),
  "no index": (["--index=none.npz", "--query=a"], "there is no index none.npz"),
  "a table": (["--index=x.csv", "--query=a"], "must be a .parquet or .npz file"),
  "an image": (["--index={index}/plain.npz", "--query=bad.png"], "bad.png cannot be decoded"),
  "the space": (
    ["--index={index}/plain.npz", "--query=a cat"],
    "--out={index}/plain.npz --projected",
  ),
  "no projection": (
    ["--index={index}/projected.parquet", "--query=bad.png"],
    "is not of this encoder at step 3",
  ),
  "pickle": (["--index=pickle.npz", "--query=a"], "not an intact file of contrastax embed"),
  "another npz": (["--index=other.npz", "--query=a"], "not an intact file of contrastax embed"),
  "few classes": (["--index=classes.npz", "--query=a"], "names and classes differ"),
  "numbers as names": (["--index=names.npz", "--query=a"], "a name is not a text"),
  "half a file": (["--index=half.parquet", "--query=a"], "not an intact file of contrastax embed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_command_is_one_line(tmp_path, run, indexes, monkeypatch, capsys, case):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "bad.png").write_bytes(b"no image")
  np.savez(
    tmp_path / "pickle.npz", vector=np.array([{}], object), contrastax=np.array([{}], object)
  )
  np.savez(tmp_path / "other.npz", x=np.zeros(3))
  with np.load(indexes / "plain.npz") as arrays:
    index = dict(arrays)
  np.savez(tmp_path / "classes.npz", **{**index, "class": index["name"][:2]})
  np.savez(tmp_path / "names.npz", **{**index, "name": np.arange(len(index["name"]))})
  whole = (indexes / "projected.parquet").read_bytes()
  (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
  arguments, expected = WRONG[case]
  filled = [each.format(index=indexes) for each in arguments]
  assert main(["contrastax search", str(run), *filled]) == 2
  error = capsys.readouterr().err
  assert error.splitlines()[-1].startswith("error: ") and expected.format(index=indexes) in error
  assert not list(tmp_path.glob("x.*"))


def test_a_query_that_is_nothing_names_the_nearest(tmp_path, run, files):
  """An exported encoder has no encoder of texts."""
  contrastax.export(contrastax.load(run), tmp_path / "export")
  data = f"folder:{next(iter(files.values())).parents[1]}"
  name = next(iter(files))
  with pytest.raises(contrastax.UserError, match="no such file; the first name is .* a text needs"):
    contrastax.search(tmp_path / "export", "a nice picture", data=data)
  with pytest.raises(contrastax.UserError) as error:
    contrastax.search(tmp_path / "export", name[:-1], data=data)
  assert f"or the path of an image; did you mean {name!r}?" in str(error.value)


class Tags(HTMLParser):
  """Counts the tags of a page, as a browser reads it."""

  def __init__(self, page):
    super().__init__()
    self.counts = collections.Counter()
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.counts[tag] += 1


def test_the_grid_shows_hostile_names():
  cells = [Cell('"><script>alert(1)</script>\n$x$', "0.5", None, "</blockquote><b>" * 90)] * 25
  answers = [Answer(Cell("", "query", None, "a & b"), cells)]
  counts = Tags(to_html("x", answers).decode()).counts
  assert counts["blockquote"] == 26 and not counts.keys() & {"script", "b"}
  assert Image.open(io.BytesIO(to_png(answers))).size[1] > 400  # three rows of ten
