"""Starts programs on several devices, each in its own process.

JAX fixes the number of devices when a process starts.

Run as a script, this file runs another: `python processes.py SCRIPT ARGUMENTS…`.
"""

import gc
import json
import os
import runpy
import subprocess
import sys
import textwrap

import jaxlib

# Devices that share few cores wait for each other; XLA gives up after 40 seconds of its own accord.
PATIENCE = 600

# Together they halve the time of compilation. The emitters of fusions take most of it otherwise.
QUICK = {
  "xla_backend_optimization_level": 0,
  "xla_cpu_parallel_codegen_split_count": 1,
}
# XLA ends a process that is given a flag which it does not know, and jaxlib 0.12 does not know this one.
if tuple(map(int, jaxlib.__version__.split(".")[:2])) < (0, 11):
  QUICK["xla_cpu_use_fusion_emitters"] = "false"


def flags(values):
  return " ".join(f"--{name}={value}" for name, value in values.items())


def collect_garbage_rarely():
  """The default, after each 700 new objects, takes a tenth of the time of tracing."""
  gc.set_threshold(100_000, 50, 100)


def environment(devices=8, *, float64=True):
  """What a process begins with to have so many devices, all of them the CPU.

  Its programs are compiled as those of the test that starts it.
  """
  own = {
    "xla_force_host_platform_device_count": devices,
    "xla_cpu_collective_call_terminate_timeout_seconds": PATIENCE,
  }
  return {
    **os.environ,
    "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags(own)}",
    "JAX_ENABLE_X64": str(int(float64)),
    "JAX_PLATFORMS": "cpu",
  }


def command(*arguments):
  """A program that runs `python *arguments`."""
  return [sys.executable, __file__, *map(str, arguments)]


def measured(*arguments, devices=8):
  """What `python *arguments` prints, JSON, on so many devices in float64."""
  done = subprocess.run(
    command(*arguments), env=environment(devices), capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


def printed(script, *arguments, **variables):
  """What a fresh Python prints as JSON on its last line."""
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
    env={**os.environ, "JAX_PLATFORMS": "cpu", **variables},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
  collect_garbage_rarely()
  sys.argv = sys.argv[1:]
  runpy.run_path(sys.argv[0], run_name="__main__")
