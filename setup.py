"""Packages of contrastax; the metadata are in pyproject.toml."""

from setuptools import find_packages, setup

# A wheel has the example configs as `contrastax.configs`. In a checkout they are in `configs/`.
setup(
  packages=[*find_packages(include=["contrastax", "contrastax.*"]), "contrastax.configs"],
  package_dir={"contrastax.configs": "configs"},
  package_data={"contrastax": ["py.typed"], "contrastax.configs": ["results.json"]},
)
