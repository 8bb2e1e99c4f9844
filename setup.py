"""contrastax: see README.md. Tools are configured in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.30", "ruff>=0.9"]

setup(
  name="contrastax",
  version="0.1.0",
  description="Exact, composable contrastive representation learning in JAX",
  long_description=(pathlib.Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=find_packages(include=["contrastax", "contrastax.*", "experiments"]),
  install_requires=[
    "absl-py",
    "array_record; platform_system != 'Windows'",
    "chex>=0.1.90",
    "flax>=0.12",
    "jax>=0.10",
    "matplotlib>=3.8",
    "ml_collections>=1.1",
    "numpy>=2.0",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.12",
    "pillow",
    "safetensors>=0.5",
    "scikit-learn>=1.5",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.9",
    "threadpoolctl>=3.1",
    "tqdm",
  ],
  extras_require={
    "docs": DOCS,
    "cuda12": ["jax[cuda12]"],
    "tpu": ["jax[tpu]"],
    "test": [
      *DOCS,
      "import-linter>=2.0",
      "ipykernel",
      "nbclient",
      "nbformat",
      "pytest>=8",
      "pytest-xdist>=3.6",
    ],
  },
)
