"""The processor that this process runs on."""

from __future__ import annotations

import pathlib


def processor_fields() -> dict[str, str]:
  """Returns what Linux reports about the first processor, by name; nothing on other systems."""
  try:
    first = pathlib.Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
  except OSError:
    return {}
  pairs = (line.partition(":") for line in first.splitlines())
  return {name.strip(): value.strip() for name, _, value in pairs}
