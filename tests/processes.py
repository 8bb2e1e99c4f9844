"""Programs on several devices: their number is fixed where a process begins, so each is one's own."""

import json
import os
import subprocess
import sys

# Devices that share few cores wait for each other; XLA gives up after 40 seconds of its own accord.
PATIENCE = 600


def environment(devices=8, *, float64=True):
  """What a process begins with to have so many devices, all of them the CPU."""
  flags = {
    "xla_force_host_platform_device_count": devices,
    "xla_backend_optimization_level": 0,
    "xla_cpu_collective_call_terminate_timeout_seconds": PATIENCE,
  }
  return {
    **os.environ,
    "XLA_FLAGS": " ".join(f"--{name}={value}" for name, value in flags.items()),
    "JAX_ENABLE_X64": str(int(float64)),
    "JAX_PLATFORMS": "cpu",
  }


def measured(*arguments, devices=8):
  """What `python *arguments` prints, JSON, on so many devices in float64."""
  done = subprocess.run(
    [sys.executable, *map(str, arguments)], env=environment(devices), capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)
