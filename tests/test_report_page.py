"""report.html of a run: what a user reads in it, without a browser and in Chromium."""

import errno
import json
import pathlib
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from images_on_disk import content, picture, write

from contrastax import data, reporting
from contrastax.experiments import run
from contrastax.experiments.findings import Finding, falling, findings, verdict
from contrastax.experiments.paired import pack
from contrastax.reporting import gallery, html, svg

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "digits_simclr.py"
EVIL = (
  "<script>alert('a & b')</script>",
  '"><img src=http://example.org/x.png onerror=1>',
  "näme\x00",
)
OPTIONS = (
  "steps=6", "batch_size=16", "eval_every=3", "checkpoint_every=3", "log_every=1",
  "method.encoder.name=mlp", "method.encoder.widths=(12,)",
)  # fmt: skip


def command(workdir, name, *options):
  flags = [f"--config.{option}" for option in (*OPTIONS, *options)]
  return [
    "run",
    f"--config={CONFIG}:runlocal",
    f"--workdir={workdir}",
    f"--config.data={name}",
    *flags,
  ]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Images of three classes whose names are HTML."""
  path = tmp_path_factory.mktemp("data") / "evil.npz"
  made = data.load("made:8x8x1").train
  names = np.array([EVIL[label % 3] for label in made["label"]], object)
  np.savez(path, image=made["image"], label=names.astype(str))
  return f"npz:{path}"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, images):
  path = tmp_path_factory.mktemp("runs <b> é") / "run"
  assert run.main(command(path, images)) == 0
  return path


@pytest.fixture(scope="module")
def page(workdir):
  return (workdir / "report.html").read_text()


class Reader(HTMLParser):
  """Collects the tags, the attributes and the texts of a page, and checks that tags are closed."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.texts, self.open = [], [], [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += [(tag, name, value) for name, value in attrs]
    if tag not in ("meta", "img"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, text):
    self.texts.append(text)


def test_the_page_is_one_whole_file_that_loads_nothing(page, workdir):
  reader = Reader(page)
  assert reader.open == [] and reader.tags[0] == "html"
  assert not {"script", "link", "iframe", "object", "base", "form"} & set(reader.tags)
  assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
  for tag, name, value in reader.attributes:
    if name == "src":
      assert tag == "img" and value.startswith("data:image/")
    if name == "href":
      assert tag == "a" and (value.startswith("#") or value.startswith("https://github.com/"))
  assert "url(" not in page and "@import" not in page
  assert (workdir / "report.html").stat().st_size < 3e6
  assert not list(workdir.glob(".report.html*"))


def test_every_section_is_in_the_contents_and_every_picture_has_a_text(page):
  reader = Reader(page)
  ids = [value for _, name, value in reader.attributes if name == "id"]
  assert len(ids) == len(set(ids))
  links = [value[1:] for _, name, value in reader.attributes if name == "href" and value[0] == "#"]
  wanted = ["findings", "results", "geometry", "curves", "map", "neighbors", "views", "negatives"]
  wanted += ["temperatures", "usage", "config", "circumstances"]
  assert links == wanted and set(links) <= set(ids)
  assert reader.tags.count("img") == len(
    [0 for _, name, value in reader.attributes if name == "alt" and value]
  )
  assert page.count('role="img"') == len(re.findall(r'<svg[^>]*aria-label="[^"]+"', page))
  assert 'lang="en"' in page and "<h1>" in page


def test_names_of_the_user_are_texts(page):
  shown = "".join(Reader(page).texts)
  assert EVIL[0] in shown and EVIL[1] in shown and "näme" in shown
  assert "\x00" not in page and "alert('a & b')</script>" not in page


def test_the_numbers_are_those_of_the_summary(page, workdir):
  summary = json.loads((workdir / "summary.json").read_text())
  for row, columns in summary["table"].items():
    for name, value in columns.items():
      half = summary["half_intervals"][row].get(name)
      assert f"{value:.3f}" + (f" ± {half:.3f}" if half is not None else "") in page, (row, name)
  (process,) = json.loads((workdir / "run.json").read_text())
  assert (
    process["time"] in page and process["machine"] in page and process["versions"]["jax"] in page
  )


def test_a_page_that_a_kill_prevented_is_written_by_the_same_command(workdir, images, page, capsys):
  summary = (workdir / "summary.json").stat().st_mtime_ns
  (workdir / "report.html").unlink()
  assert run.main(command(workdir, images)) == 0
  assert "evaluating" not in capsys.readouterr().out
  assert (workdir / "summary.json").stat().st_mtime_ns == summary
  cut = "Circumstances</h2>"
  assert (workdir / "report.html").read_text().split(cut)[0] == page.split(cut)[0]


def test_a_longer_run_gets_a_new_page(workdir, images, tmp_path):
  longer = tmp_path / "run"
  shutil.copytree(workdir, longer)
  (longer / "report.html").write_text("an old page")
  assert run.main(command(longer, images, "steps=8")) == 0
  assert "for 8 steps of 16 examples" in (longer / "report.html").read_text()


def test_a_page_that_cannot_be_drawn_is_a_warning(workdir, images, tmp_path, capsys, monkeypatch):
  broken = tmp_path / "run"
  shutil.copytree(workdir, broken)
  (broken / "report.html").unlink()
  monkeypatch.setattr(gallery, "views", lambda *_: 1 / 0)
  assert run.main(command(broken, images)) == 0
  assert "report.html could not be drawn: division by zero" in capsys.readouterr().out
  assert not (broken / "report.html").exists()


def test_a_full_disk_is_one_line(workdir, images, tmp_path, capsys, monkeypatch):
  full = tmp_path / "run"
  shutil.copytree(workdir, full)
  (full / "report.html").unlink()

  def write_bytes(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(run.page, "write_bytes", write_bytes)
  assert run.main(command(full, images)) == 2
  assert capsys.readouterr().err.startswith("error: the disk is full; free some space and run")


def test_texts_are_decoded_and_vectors_are_numbered(tmp_path):
  texts = data.dataset.encode_texts(["one <i>", "zwei ü", ""])
  assert gallery.kind_of({"a": texts, "b": np.zeros((3, 4), np.float32)}) == "texts"
  (shown,) = gallery.show({"a": texts}, 1, "")
  assert shown.text == "zwei ü"
  bytes_of_a_vector = np.full((3, 4), 200, np.uint8)
  assert gallery.kind_of(bytes_of_a_vector) is None and gallery.show(bytes_of_a_vector, 0, "") == []
  numbered = gallery.neighbors(
    {0: [], 1: []}, np.array([0]), np.array([[1]]), np.ones((1, 1)), None, None
  )
  assert "example 1" in html.text_of(numbered[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [5, 200])
def test_images_of_any_size_and_channels_are_small_files(channels, size):
  images = np.random.default_rng(0).uniform(size=(1, size, size + 3, channels)).astype(np.float32)
  (shown,) = gallery.show(images, 0, "an alt text")
  assert shown.get("alt") == "an alt text" and len(shown.get("src")) < 20_000


def test_a_neighbor_is_marked_by_shape_and_by_color():
  names = {0: "cat", 1: "cat", 2: "dog"}
  shown = {example: [html.element("img")] for example in names}
  (row,) = gallery.neighbors(
    shown, np.array([0]), np.array([[1, 2]]), np.array([[0.9, 0.5]]), names, "pictures"
  )
  states = [item.get("class") for item in row]
  texts = ["".join(item.itertext()) for item in row]
  assert states == ["query", "right", "wrong"]
  assert texts == ["cat", "✓ 0.90 cat", "✗ 0.50 dog"]


def test_normalized_views_are_shown_in_their_own_range():
  images = np.random.default_rng(0).normal(size=(4, 6, 6, 1)).astype(np.float32)
  assert gallery.is_rescaled([2 * images]) and not gallery.is_rescaled([images.clip(0, 1)])


def test_a_curve_and_a_map_of_extreme_values():
  assert "polyline" in html.text_of(svg.curve([0, 5], [1e-9, 1e9], "x"))
  assert "polyline" in html.text_of(svg.curve([0], [0.0], "x"))
  nothing = svg.scatter(np.full((3, 2), np.nan), np.zeros(3), ("a",), "m")
  assert "0 examples" in nothing.get("aria-label")
  one_point = svg.scatter(np.zeros((3, 2)), np.array([0, 1, -1]), ("a",), "m")
  assert len(one_point) == 3 and "nan" not in html.text_of(one_point)


def facts_of(**changes):
  """A summary.json of a good run, with changes."""
  right, half = np.ones(400, bool), np.arange(400) % 2 == 0
  rows = {"raw": half, "untrained": half, "trained": right}
  summary = {
    "table": {row: {"knn": float(each.mean()), "linear_1": 0.5, "linear_5": 0.5, "linear": float(each.mean())} for row, each in rows.items()},
    "draws": {row: {"linear_1": [0.5, 0.6], "linear_5": [0.5, 0.6]} for row in rows},
    "correct": {row: {"knn": pack(each), "linear": pack(each)} for row, each in rows.items()},
    "geometry": {row: {"embedding_std": 0.8, "effective_rank": 30.0} for row in rows},
    "examples": {"trained_on": 1000, "train": 1000, "test": 400},
    "judged_on": "test",
  }  # fmt: skip
  return summary | changes


RUN = {"steps": 100, "batch_size": 50, "validation": 0}
STEADY = [{"step": step, "loss": 1.0 + 1 / (1 + step)} for step in range(0, 101, 5)]


def texts(*arguments):
  return " ".join(finding.fact for finding in findings(*arguments))


def test_a_good_run_has_no_findings():
  assert findings(facts_of(), RUN, STEADY, [{"versions": {}, "commit": "abc"}]) == []
  assert "better than the untrained encoder" in " ".join(verdict(facts_of()))


def test_each_fault_is_found():
  good = facts_of()
  swapped = {**good["correct"], "trained": good["correct"]["raw"], "raw": good["correct"]["trained"], "untrained": good["correct"]["trained"]}  # fmt: skip
  below = facts_of(correct=swapped)
  assert "below the untrained encoder" in texts(below, RUN, STEADY, [])
  assert "below the raw inputs" in texts(below, RUN, STEADY, [])
  assert "worse than the untrained encoder" in " ".join(verdict(below))
  started = {
    key: {**good[key], "start": good[key]["trained"]} for key in ("table", "draws", "correct")
  }
  worse = {**started["correct"], "trained": good["correct"]["raw"]}
  from_weights = facts_of(**{**started, "correct": worse})
  assert "below the weights that training started from" in texts(from_weights, RUN, STEADY, [])
  geometry = {"trained": {"embedding_std": 0.001, "effective_rank": 1.0}, "untrained": {}}
  assert "have collapsed" in texts(facts_of(geometry=geometry), RUN, STEADY, [])
  geometry = {"trained": {"embedding_std": None, "effective_rank": None}, "untrained": {}}
  assert "not finite" in texts(facts_of(geometry=geometry), RUN, STEADY, [])
  assert "fewer than the 1,000" in texts(facts_of(), RUN | {"steps": 10}, STEADY, [])
  assert "held-out training examples" in texts(facts_of(), RUN | {"validation": 400}, STEADY, [])
  no_negatives = [*STEADY, {"step": 100, "negatives": 0.0}]
  assert "In 1 of 1 recorded steps no anchor" in texts(facts_of(), RUN, no_negatives, [])
  low_margin = [{"step": 290, "margin": 0.0}]
  assert "Warning during training, step 290" in texts(
    facts_of(), RUN | {"steps": 300}, low_margin, []
  )
  versions = [{"versions": {"jax": "1"}}, {"versions": {"jax": "2"}}]
  assert "other versions" in texts(facts_of(), RUN, STEADY, versions)
  assert "not committed" in texts(facts_of(), RUN, STEADY, [{"commit": "abc-dirty"}])


def test_few_test_examples_are_found():
  good = facts_of()
  few = {row: {name: pack(np.ones(50, bool)) for name in columns} for row, columns in good["correct"].items()}  # fmt: skip
  found = findings(facts_of(examples=good["examples"] | {"test": 50}, correct=few), RUN, STEADY, [])
  assert [finding.fact for finding in found] == ["There are only 50 test examples."]
  assert all(isinstance(finding, Finding) and finding.advice for finding in found)


def test_a_short_run_is_the_first_explanation_of_a_low_accuracy():
  good = facts_of()
  swapped = {**good["correct"], "trained": good["correct"]["raw"], "untrained": good["correct"]["trained"]}  # fmt: skip
  for steps, is_short in ((60, True), (500, False)):
    found = findings(facts_of(correct=swapped), RUN | {"steps": steps}, STEADY, [])
    (advice,) = (each.advice for each in found if "the untrained" in each.fact)
    words = "The run was short: 3 epochs. First train for more steps, such as --config.steps=400."
    assert advice.startswith(words) == is_short and "weaken them" in advice
    assert ("The run was short" in advice) == is_short


def test_without_labels_there_is_no_warning_about_accuracies():
  few = facts_of()["examples"] | {"test": 40}
  assert findings(facts_of(examples=few, table={}), RUN, STEADY, []) == []


def test_left_out_files_are_counted_and_the_first_are_named():
  faults = [f"{i}.png: the file is empty" for i in range(5)]
  (one,) = findings(facts_of(), RUN, STEADY, [], faults[:1])
  assert one.fact.startswith("1 file of the data was left out")
  (found,) = findings(facts_of(), RUN, STEADY, [], faults)
  assert found.fact.startswith("5 files of the data were left out")
  assert "2.png: the file is empty; and 2 more" in found.advice and "3.png" not in found.advice


def test_the_page_of_a_short_run_without_labels(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  files = {f"{i}.png": content(picture(i, 8 + i, 8), "PNG") for i in range(40)}
  write(tmp_path / "photos", files | {"<empty>.png": b""})
  options = ("data.size=8", "data.channels=1", "log_every=20", "method.views.name=unchanged")
  name = f"folder:{tmp_path / 'photos'}"
  assert run.main(command(tmp_path / "run", name, *options)) == 0
  shown = "".join(Reader((tmp_path / "run" / "report.html").read_text()).texts)
  assert "1 file of the data was left out" in shown and "<empty>.png: the file is empty" in shown
  assert shown.count("The metrics of training were") == 2  # the curves and the temperatures
  assert "log_every is 20" in shown and "±" not in shown and "alignment" not in shown
  assert not (tmp_path / "run" / "figures" / "temperatures.png").exists()


@pytest.mark.parametrize("records", [0, 1, 2])
@pytest.mark.parametrize("each", [{}, {"examples": np.linspace(0.1, 0.2, 9)}])
def test_figures_without_curves_are_left_out(tmp_path, records, each):
  lines = [{"step": step, "temperature": 0.1 + step} for step in range(records)]
  (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
  temperatures, curves = tmp_path / "temperatures.png", tmp_path / "learning_curves.png"
  reporting.temperatures(tmp_path / "metrics.jsonl", each, None, temperatures)
  reporting.learning_curves(tmp_path / "metrics.jsonl", curves)
  assert temperatures.exists() == (records > 1 or bool(each))
  assert curves.exists() == (records > 1)


def test_whether_a_loss_still_falls():
  steps = np.arange(0, 400, 10.0)
  noise = np.random.default_rng(0).normal(size=len(steps))
  line = list(zip(steps, 5 - steps / 100, strict=True))
  assert falling(line) == pytest.approx(0.25, abs=0.03)
  assert falling(list(zip(steps, np.exp(-steps / 20), strict=True))) is None
  assert falling(list(zip(steps, noise, strict=True))) is None
  assert falling(list(zip(steps, steps, strict=True))) is None
  assert falling(line[:5]) is None


CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser():
  sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
  if CHROMIUM is None:
    pytest.skip("there is no chromium on the PATH; apt-get install chromium")
  with sync_api.sync_playwright() as playwright:
    arguments = ["--no-sandbox", "--disable-gpu"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
    yield browser
    browser.close()


def brightness(color):
  return sum(map(float, re.findall(r"[\d.]+", color)[:3])) / 3


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_chromium(browser, workdir, page, width, scheme):
  assert page
  view = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
  requests, errors = [], []
  view.on("request", lambda request: requests.append(request.url))
  view.on("pageerror", lambda error: errors.append(error))
  view.on("dialog", lambda dialog: errors.append(dialog.message))
  view.goto((workdir / "report.html").as_uri())
  assert all(url.startswith(("file:", "data:")) for url in requests) and not errors
  assert sum(url.startswith("file:") for url in requests) == 1
  assert view.evaluate("document.documentElement.scrollWidth") <= width
  assert view.evaluate("document.scripts.length") == 0
  # No word of a table is broken: a row of one word has the height of one line.
  rows = "[...document.querySelectorAll('figure.table tbody th')].map(cell => cell.offsetHeight)"
  assert max(view.evaluate(rows)) < 50
  loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
  assert view.evaluate(loaded)
  style = "getComputedStyle(document.body)"
  background = brightness(view.evaluate(f"{style}.backgroundColor"))
  text = brightness(view.evaluate(f"{style}.color"))
  assert (background < 60 and text > 180) if scheme == "dark" else (background > 240 and text < 60)
  view.close()
