"""Installs the four packages with their templates and the files of the demo, and the `cemiface` command.

Ranges only: a cluster brings its own CUDA build of torch. What `make setup` installs on a machine without
a GPU is pinned in constraints.txt.
"""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("jobs", "cemiface", "shards", "slurm")

setup(
    name="cemiface-batch",
    version="0.1.0",
    description="CemiFace as an HPC batch suite: synthetic face-recognition training sets on a Slurm cluster",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=[name + more for name in PACKAGES for more in ("", ".*")]),
    package_data={
        "jobs": ["**/templates/*.j2", "**/grammars/*.yaml", "command/demo_files/**/*"],
        "cemiface": ["measures/embedded/*"],
    },
    entry_points={"console_scripts": ["cemiface = jobs.command.main:main"]},
    install_requires=[
        "torch>=2.6",
        "deepspeed>=0.19,<0.20",
        "submitit>=1.5.4,<1.6",
        "webdataset>=1.0,<2",
        "h5py>=3.10",
        "numpy>=1.26",
        "pyyaml>=6.0",
        "pydantic>=2.12,<3",
        "safetensors>=0.5",
        "simplejpeg>=1.8",
        "pillow>=11",
        "onnxruntime>=1.20",
        "ai-edge-litert>=2",
        "rich>=13",
        "jinja2>=3.1",
        "markupsafe>=2.1",
        "matplotlib>=3.9",
    ],
    extras_require={
        # Stable Diffusion as a base. From 0.38 on, diffusers runs no code that lies in a model folder.
        "diffusers": ["diffusers>=0.38,<1", "transformers>=5", "peft>=0.17", "accelerate>=1"],
        "dev": [
            "accelerate>=1",
            "axe-core-python>=0.1",
            "datasets>=4",
            "diffusers>=0.38,<1",
            "jsonschema>=4.20",
            "mlcroissant>=1.1,<2",
            "mypy>=1.15",
            "peft>=0.17",
            "pytest>=8",
            "pytest-cov>=6",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.11",
            "selenium>=4.20",
            "setuptools>=70.1",
            "transformers>=5",
            "types-PyYAML",
        ],
        "bench": ["diffusers>=0.35", "kornia>=0.8"],
    },
)
