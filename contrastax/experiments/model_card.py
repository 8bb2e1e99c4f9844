"""The model card of an exported encoder, from the facts that its run has recorded."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

import contrastax
from contrastax.core import UserError
from contrastax.data.licenses import license_of
from contrastax.experiments.artifacts import ONNX, STABLEHLO
from contrastax.files import read_json
from contrastax.reporting.table import markdown
from contrastax.training import weights
from contrastax.training.inputs import is_image, is_text
from contrastax.training.load import FrozenEncoder, data_fingerprint


def model_card(
  run: FrozenEncoder, workdir: pathlib.Path | None, errors: Mapping[str, float], tolerance: float
) -> str:
  """Returns the model card as Markdown.

  Args:
    run: the encoder.
    workdir: the folder of the run, or None if it is not known.
    errors: {file: its relative error}.
    tolerance: the largest relative error that was allowed.
  """
  config, summary, processes = (
    _read(workdir, name, kind)
    for name, kind in (("config.json", dict), ("summary.json", dict), ("run.json", list))
  )
  method = config.get("method")
  encoder = run.spec[0] if isinstance(run.spec[0], dict) else {}
  name = method.get("name", "") if isinstance(method, dict) else ""
  title = markdown(f"{name} {encoder.get('name', 'encoder')}")
  width = run(_zeros(run.inputs)).shape[1]
  after = ", after the projection" if run.spec[1] is not None else ""
  sections = [
    f"---\nlibrary_name: contrastax\ntags: [contrastive-learning, feature-extraction]\n---\n\n# {title}",
    f"An encoder that was trained by contrastax {contrastax.__version__}. It maps {_kind(run.inputs)} "
    f"to embeddings of {width} numbers{after}. Compare embeddings by their cosine.",
    f"## Input\n\n{_input(run.inputs)}",
    f"## How to load it\n\n{_loading(run, errors)}",
    _checked(errors, tolerance),
    f"## Training data\n\n{_facts(_data, config, workdir, run.step)}",
    f"## Evaluation\n\n{_facts(_evaluation, run, summary, _read(workdir, 'encoder.json', dict))}",
    f"## Training\n\n{_facts(_training, run, processes, summary)}",
  ]
  if config:
    text = json.dumps(config, indent=1, ensure_ascii=False)
    sections.append(f"The config of the run:\n\n````json\n{text}\n````")
  return "\n\n".join(sections) + "\n"


def _facts(write: Callable[..., str], *arguments: Any) -> str:
  """Returns a section from files of the run, whose entries may have any types in a damaged run."""
  try:
    return write(*arguments)
  except (AttributeError, KeyError, TypeError, ValueError):
    return "The files of the run that record this are damaged."


def _kind(inputs: Any) -> str:
  return "images" if is_image(inputs) else "texts" if is_text(inputs) else "arrays"


def _input(inputs: Any) -> str:
  if is_image(inputs):
    h, w, c = inputs.shape
    colors = {1: "gray", 3: "RGB"}.get(c, f"{c} channels")
    scale = (
      "uint8, from 0 (black) to 255. They are divided by 255 inside of all files of this folder but "
      f"{weights.FILE}."
      if inputs.dtype == np.uint8
      else "float32 in [0, 1]."
    )
    decoded = (
      "\n\n`contrastax.load` also takes paths and PIL images of any size: the EXIF rotation is applied, "
      "transparent pixels are placed on white, and the largest centered rectangle of this aspect ratio "
      "is resized bilinearly with antialiasing."
      if c in (1, 3)
      else ""
    )
    return f"Images [n, {h}, {w}, {c}], {colors}, {scale}{decoded}"
  if is_text(inputs):
    length = inputs.shape[0]
    return (
      f"Texts as bytes [n, {length}], uint8: UTF-8, followed by zeros. `contrastax.load` also takes "
      "texts, and cuts those that are longer."
    )
  leaves = jax.tree_util.tree_leaves_with_path(inputs)
  return "\n".join(
    f"- {jax.tree_util.keystr(path) or 'inputs'}: {leaf.dtype} [n, {', '.join(map(str, leaf.shape))}]"
    for path, leaf in leaves
  )


def _loading(run: FrozenEncoder, files: Collection[str]) -> str:
  """Returns the code that loads each file. The tests run it."""
  leaves = jax.tree.leaves(run.inputs)
  single = isinstance(run.inputs, jax.ShapeDtypeStruct)
  made = jax.tree.map(_made, run.inputs)
  shown = made if single else _as_code(made)
  needs = "" if run.spec[0] is not None else ", encoder=…"
  blocks = [
    "The code runs in this folder.",
    f"```python\nimport numpy as np\n\ninputs = {shown}\n```",
    "With contrastax, from `encoder.json` and `model.safetensors`:",
    f'```python\nimport contrastax\n\nencode = contrastax.load("."{needs})\nembeddings = encode(inputs)\n```',
  ]
  if STABLEHLO in files:
    blocks += [
      f"With JAX only, from `{STABLEHLO}`. Load such a file only from a source that you trust:",
      "```python\nimport pathlib\n\nfrom jax import export\n\n"
      f'program = export.deserialize(bytearray(pathlib.Path("{STABLEHLO}").read_bytes()))\n'
      "embeddings = program.call(inputs)\n```",
    ]
  if ONNX in files:
    given = "[inputs]" if single else "jax.tree.leaves(inputs)"
    start = "import onnxruntime" if single else "import jax\nimport onnxruntime"
    blocks += [
      f"With ONNX Runtime, from `{ONNX}`{'' if len(leaves) == 1 else ', whose inputs are in the order of jax.tree.leaves'}:",
      f'```python\n{start}\n\nsession = onnxruntime.InferenceSession("{ONNX}")\n'
      "names = [each.name for each in session.get_inputs()]\n"
      f"embeddings = session.run(None, dict(zip(names, {given}, strict=True)))[0]\n```",
    ]
  layout = weights.layout_of(run.spec[0]) if run.spec[1] is None else weights.TREE
  blocks += [
    f"The parameters alone, from `{weights.FILE}`:",
    "```python\nfrom safetensors.numpy import load_file\n\n"
    f'parameters = load_file("{weights.FILE}")\n```',
  ]
  if layout == weights.TIMM:
    blocks.append(_in_timm(run.spec[0]))
  return "\n\n".join(blocks)


def _in_timm(spec: Any) -> str:
  """Describes how timm loads the parameters.

  Args:
    spec: the encoder as specified in a config: a ResNet or a ViT, or a part that contains one.
  """
  normalization = weights.normalization_of(spec)
  while isinstance(spec.get("encoder"), dict):
    spec = spec["encoder"]
  images = "without a normalization"
  if normalization not in ("none", None):
    images = f"which must first be normalized: {json.dumps(normalization)}"
  text = (
    "They have timm's names and PyTorch's layout, without a classifier. A model of timm with the same "
    "layers takes them by `load_state_dict(parameters, strict=False)`, after "
    f"`safetensors.torch.load_file`. It takes images in [0, 1], [n, c, h, w], {images}."
  )
  if spec.get("name") == "vit" and spec.get("positions") == "sincos":
    text += " The fixed positions are not among them; `from contrastax.encoders.vit import sincos` gives the function that returns them."
  return text


def _checked(errors: Mapping[str, float], tolerance: float) -> str:
  rows = "\n".join(f"| `{name}` | {error:.1e} |" for name, error in errors.items())
  return (
    "Each file was loaded again and called on generated examples. The error is the largest distance of "
    f"two embeddings, divided by the largest norm; at most {tolerance:.0e} was allowed.\n\n"
    f"| file | relative error |\n|---|---|\n{rows}"
  )


def _data(config: Mapping[str, Any], workdir: pathlib.Path | None, step: int) -> str:
  data = config.get("data")
  if data is None:
    return "It is not recorded. License: not known."
  name = data["name"] if isinstance(data, dict) else str(data)
  code = None if workdir is None else data_fingerprint(workdir, step)
  lines = [
    f"- Name: `{' '.join(name.replace('`', ' ').split())}`",
    f"- Fingerprint of the training examples: {'not known' if code is None else f'{code:08x}'}",
    f"- License: {markdown(license_of(name) or 'not known; state it before you publish the encoder')}",
  ]
  return "\n".join(lines)


def _evaluation(
  run: FrozenEncoder, summary: Mapping[str, Any], described: Mapping[str, Any]
) -> str:
  table, intervals = summary.get("table"), summary.get("half_intervals", {})
  if described.get("network") != run.network:
    return "This network of the run was not evaluated by itself."
  if not table:
    return "The run has no evaluation by labels."
  columns = list(dict.fromkeys(name for row in table.values() for name in row))
  lines = [f"| | {' | '.join(map(markdown, columns))} |", "|---|" + "---|" * len(columns)]
  for row, values in table.items():
    cells = []
    for name in columns:
      half = intervals.get(row, {}).get(name)
      value = "" if values.get(name) is None else f"{values[name]:.3f}"
      cells.append(value if half is None else f"{value} ± {half:.3f}")
    lines.append(f"| {markdown(row)} | {' | '.join(cells)} |")
  notes = ""
  if run.spec[1] is not None:
    notes += "The figures are of the encoder without the projection. "
  if summary.get("steps") != run.step:
    notes += f"The figures are of step {markdown(summary.get('steps'))}. "
  return (
    f"{notes}Accuracies on the {markdown(summary.get('judged_on', 'test'))} examples of the same data. `knn` and `linear` "
    "are probes with all labels, `linear_1` and `linear_5` with one and five labels per class "
    "(± 95 % over draws of labels). The row `raw` is for the inputs themselves, and `untrained` for the "
    "encoder before training.\n\n" + "\n".join(lines)
  )


def _training(run: FrozenEncoder, processes: Any, summary: Mapping[str, Any]) -> str:
  steps = f" of {summary['steps']:,}" if isinstance(summary.get("steps"), int) else ""
  lines = [f"- Step: {run.step:,}{steps}", f"- Network: {markdown(run.network)}"]
  last = processes[-1] if isinstance(processes, list) and processes else {}
  if isinstance(last, dict) and last:
    versions = ", ".join(f"{name} {each}" for name, each in last.get("versions", {}).items())
    recorded = (
      f"Time: {last.get('time')}",
      f"contrastax {last.get('contrastax')}, commit {last.get('commit') or 'of a release'}",
      f"Python {last.get('python')}, {versions}",
      f"Machine: {last.get('machine')}; {', '.join(last.get('devices', []))}",
    )
    lines += [f"- {markdown(line)}" for line in recorded]
    command = " ".join(str(last.get("command")).split()).replace("````", "")
    lines.append(f"- Command:\n\n````\n{command}\n````")
  return "\n".join(lines)


def _read(workdir: pathlib.Path | None, name: str, kind: Any) -> Any:
  """Reads a file of the run. One that is missing or damaged contributes no facts."""
  if workdir is None:
    return kind()
  try:
    return read_json(workdir / name, kind)
  except (OSError, UserError):
    return kind()


def _made(spec: jax.ShapeDtypeStruct) -> str:
  shape = ", ".join(map(str, (2, *spec.shape)))
  return f"np.zeros(({shape}), np.{np.dtype(spec.dtype)})"


def _as_code(tree: Any) -> str:
  """Returns a tree of expressions as an expression."""
  if isinstance(tree, dict):
    return "{" + ", ".join(f"{name!r}: {_as_code(each)}" for name, each in tree.items()) + "}"
  if isinstance(tree, tuple):
    return "(" + "".join(f"{_as_code(each)}, " for each in tree).rstrip() + ")"
  return tree


def _zeros(inputs: Any) -> Any:
  return jax.tree.map(lambda x: np.zeros((1, *x.shape), x.dtype), inputs)
