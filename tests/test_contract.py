"""The device contract: the number of devices never changes the result."""

import pathlib

import all_methods
import contract
import jax
import processes
import pytest

from contrastax import data

MEASURE = pathlib.Path(__file__).with_name("contract.py")


def measured(*arguments):
  return processes.measured(MEASURE, *arguments)


def check(found):
  for case, result in found.items():
    assert all(result["moved"].values()), (case, result)
    if case == "mutant":  # a mean over the local shard, which the contract must catch
      assert result["apart"] > 1e-3, result
    else:
      assert result["apart"] < 1e-10, (case, result)


def test_one_and_eight_devices():
  check(measured("quick", 0, 1, 3, 1, 8))


@pytest.mark.full
@pytest.mark.parametrize("part", range(8))  # a process for each part of the cases
def test_twenty_steps_on_one_two_four_and_eight_devices(part):
  check(measured("all", part, 8, 20, 1, 2, 4, 8))


def test_what_a_method_keeps_is_among_what_moved():
  """Each entry that the contract asserts to have moved, so that none is missing unnoticed."""
  kept = {
    "MoCo": {"encoder", "projection", "target", "contrast negatives"},
    "NNCLR": {"encoder", "projection", "predictor", "support"},
    "SwAV": {"encoder", "projection", "queue"},
    "DINO": {"encoder", "projection", "target", "center"},
    "BYOL": {"encoder", "projection", "predictor", "target"},
    "SimCLR, iSogCLR": {"encoder", "projection", "contrast temperature", "contrast loss"},
  }
  batch = data.Resident(data.load("digits").train, batch_size=64).batch(0)
  for name, expected in kept.items():
    method = all_methods.parts()[name]
    _, state = jax.eval_shape(method.init, jax.random.key(0), batch)
    found = contract.entries("state", state)
    assert {entry for entry, x in found.items() if jax.tree.leaves(x)} == expected | {"step"}
