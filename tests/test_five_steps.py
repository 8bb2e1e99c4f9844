"""Every method and its main combinations take the five steps that were recorded in five_steps.npz."""

import pathlib

import numpy as np
import processes

PROGRAM = pathlib.Path(__file__).with_name("five_steps.py")


def test_five_steps_are_those_recorded():
  found = processes.measured(PROGRAM, "compare", devices=1)
  assert found
  for name, differences in found.items():
    assert len(differences) > 10, name
    for path, difference in differences.items():
      # Parameters are drawn in float32, which rounds differently on other machines.
      assert difference <= (1e-5 if path.startswith("drawn/") else 1e-9), (name, path, difference)


def test_all_cases_are_recorded():
  import five_steps

  recorded = {path.partition("|")[0] for path in np.load(five_steps.RECORD).files}
  assert recorded == set(map(five_steps.recorded_name, five_steps.cases()))
