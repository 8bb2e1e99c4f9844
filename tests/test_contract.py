"""The device contract: the number of devices never changes the result."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

MEASURE = pathlib.Path(__file__).with_name("contract.py")


def measured(*arguments):
  environment = {
    **os.environ,
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "JAX_ENABLE_X64": "1",
    "JAX_PLATFORMS": "cpu",
  }
  done = subprocess.run(
    [sys.executable, MEASURE, *map(str, arguments)], env=environment, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def check(found):
  for case, result in found.items():
    assert all(result["moved"].values()), (case, result)
    if case == "mutant":  # a mean over the local shard, which the contract must catch
      assert result["apart"] > 1e-3, result
    else:
      assert result["apart"] < 1e-10, (case, result)


def test_one_and_eight_devices():
  check(measured(4, 1, 8))


@pytest.mark.full
def test_twenty_steps_on_one_two_four_and_eight_devices():
  check(measured(20, 1, 2, 4, 8))
