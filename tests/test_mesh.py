"""The losses on a mesh: neither the number of devices nor the evaluation changes a result.

Value and gradient, by every array and the temperature, of every public loss; what is
communicated; and the traps that others fall into, each by name.
"""

import functools
import json
import pathlib
import subprocess

import processes
import pytest

MEASURE = pathlib.Path(__file__).with_name("mesh.py")
PROCESSES = (
  ("losses", "types"),
  (
    "listed", "reductions", "odd", "two axes", "collectives", "memory", "refusals", "encoder",
    "positives", "weights", "chunks", "explicit", "derivatives",
  ),
)  # fmt: skip
"""What each process measures. The losses and their types compare with the same programs."""


@functools.cache
def started(which):
  """Processes with eight host devices, both at work at once."""
  pipe = subprocess.PIPE
  return [
    subprocess.Popen(
      processes.command(MEASURE, which, *names),
      env=processes.environment(),
      stdout=pipe,
      stderr=pipe,
      text=True,
    )
    for names in PROCESSES
  ]


@functools.cache
def read(which, number):
  process = started(which)[number]
  out, err = process.communicate()
  assert process.returncode == 0, err
  return json.loads(out)


@pytest.fixture(
  params=["few", pytest.param("all", marks=pytest.mark.full)], ids=["some", "all"], scope="module"
)
def measured(request):
  """What was measured, by name; marked full: of all losses in all ways."""
  which = request.param
  started(which)
  numbers = {name: number for number, names in enumerate(PROCESSES) for name in names}
  return lambda name: read(which, numbers[name])[name]


# Dense, in tiles, around a ring.


def test_every_public_loss_is_measured(measured):
  for module, (here, public) in measured("listed").items():
    assert here == public, f"{module}: list a new loss in tests/mesh_cases.py, with its forms"


def test_losses_and_gradients_are_the_same_however_they_are_evaluated(measured):
  for case, ways in measured("losses").items():
    for way, apart in ways.items():
      assert apart < 1e-10, (case, way)


ROUNDING = {"float64": 0, "float32": 1e-4, "int8": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}
"""How far a gradient may be apart, by the type that it is rounded to, and its cotangents are."""


def test_losses_of_any_type_of_vectors_are_exact_but_for_rounding(measured):
  """Dense, in tiles and around a ring, of the same numbers in float64.

  Values are computed in float32 at least, whatever the type of the vectors.
  """
  for case, ways in measured("types").items():
    for way, (value, gradient) in ways.items():
      named = way.split(", ")[1].split(" and ")
      exact = named == ["float64"]
      assert value < (1e-10 if exact else 1e-4), (case, way, value)
      assert gradient < (1e-10 if exact else max(map(ROUNDING.get, named))), (case, way, gradient)


def test_all_reductions_find_the_same_places_and_gradients_around_a_ring(measured):
  for case, devices in measured("reductions").items():
    assert max(devices.values()) < 1e-10, (case, devices)


def test_on_odd_numbers_of_devices_too(measured):
  for case, counts in measured("odd").items():
    assert max(counts.values()) < 1e-10, (case, counts)


def test_around_one_axis_of_two(measured):
  assert measured("two axes") < 1e-10


# What is communicated, and what is kept.


def test_a_ring_gathers_nothing(measured):
  """Vectors travel from device to device; no device ever has all of them.

  Where a loss joins its two views, the compiler may gather their numbers, but no vectors.
  """
  found = measured("collectives")
  for case, shapes in found.items():
    if case != "info_nce, a set per anchor":
      travelling = [shape for shape in shapes["collective-permute"] if shape.endswith(",48]")]
      assert travelling, case
    gathered = shapes.get("all-gather", [])
    assert not any(shape.endswith(",48]") for shape in gathered), (case, gathered)
    assert not gathered or case == "nt_xent", (case, gathered)


def test_each_device_keeps_its_share(measured):
  for case, temporaries in measured("memory").items():
    temporaries = {int(devices): size for devices, size in temporaries.items()}
    if case == "sup_con":  # of one set, halved work on one device; more buffers on several
      assert temporaries[8] < 0.45 * temporaries[1], temporaries  # measured: 0.36
    else:
      assert temporaries[8] < 0.25 * temporaries[1], (case, temporaries)  # measured: 0.16, 0.20
      for devices in (2, 4):  # measured: 0.51
        assert temporaries[2 * devices] < 0.55 * temporaries[devices], (case, temporaries)


def test_what_a_mesh_cannot_do_is_said_in_one_line(measured):
  fragments = {
    "anchors": ["12 anchors", "(12, 3)", "8 devices of axis 'data'", "multiple of 8"],
    "a loss": ["20 anchors", "(20, 3)", "8 devices of axis 'data'", "multiple of 8"],
    "candidates": ["12 candidates", "(12, 3)", "8 devices of axis 'data'", "both directions"],
    "candidates in one direction": ["no error"],
    "inside shard_map": ["inside shard_map", "Plan(mesh=mesh)"],
  }
  found = measured("refusals")
  assert found.keys() == fragments.keys()
  for case, message in found.items():
    assert "\n" not in message
    assert all(fragment in message for fragment in fragments[case]), message


def test_a_mesh_of_explicit_axes_is_refused_in_one_line(measured):
  for case, message in measured("explicit").items():
    assert "training.make_mesh" in message and "\n" not in message, (case, message)


def test_second_derivatives_around_a_ring(measured):
  found = measured("derivatives")
  assert found["apart"] < 1e-10
  for kind in ("forward", "twice"):
    assert 'Plan(block="dense")' in found[kind] and "\n" not in found[kind], found[kind]


# Traps. Each test also measures the trap itself, so that it would be seen.


def test_the_gradient_of_the_encoder_is_whole_as_that_of_the_temperature_is(measured):
  """open_clip by default: each device gathers the others' vectors without their gradient.

  Averaged over W devices, the encoder's gradient is 1/W of the true one, and the
  temperature's is whole. Compared with the loss by its formula, on one device and on eight.
  """
  found = measured("encoder")
  assert max(found["apart"].values()) < 1e-10, found
  trap = found["share of the gradient"]
  assert abs(trap["w"] - 1 / 8) < 1e-10 and abs(trap["log_tau"] - 1) < 1e-10


def test_every_row_has_its_own_positive_on_every_device(measured):
  """LibAUC's v2: every device takes the first one's positives. Row by row, by the formula."""
  found = measured("positives")
  assert max(found["apart"].values()) < 1e-10, found
  assert found["of the first device"] > 1e-2


def test_weights_are_normalized_over_the_whole_batch(measured):
  """lightly's DCLW: the weights' mean is over the device's own examples. By the formula."""
  found = measured("weights")
  assert max(found["apart"].values()) < 1e-10, found
  assert found["of each device"] > 1e-2


def test_an_encoder_in_chunks_leaves_the_gradient_of_the_temperature_as_it_is(measured):
  """OpenCLIP's accumulation adds up k losses: the temperature's gradient is k times the true one.

  The other half of that trap, dropout drawn anew when chunks are computed again, is in
  test_chunked.py: test_other_masks_in_the_recomputation_would_be_found_out.
  """
  found = measured("chunks")
  assert found["apart"] < 1e-10, found
  trap = found["share of the gradient"]
  assert abs(trap["w"] - 1) < 1e-10 and abs(trap["log_tau"] - 5) < 1e-10
