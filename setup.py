# SPDX-License-Identifier: Apache-2.0
"""Package metadata."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: importing the package would need its dependencies before they are installed.
INIT = (ROOT / "speechbrain_ee" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "([^"]+)"', INIT, re.MULTILINE).group(1)

# Lower bounds are the oldest tested versions (make test-versions). Upper bounds and exclusions are versions that are
# known to fail. Exact versions are in locks/.
INSTALL_REQUIRES = [
    # torchaudio up to 2.10 pins its torch version. 2.11.0 has no requirement and works with torch 2.11 or newer; 2.11.1
    # requires torch 2.11 or newer but works only with 2.13 or newer. With these exclusions, pip can only choose pairs
    # that work.
    "torch>=2.7.1,!=2.11.*,!=2.12.*",
    "torchaudio>=2.7.1,!=2.11.0",  # imported by speechbrain
    "speechbrain>=1.1.2",  # 1.1.2 fixes the padding mask of a batch without a full-length utterance
    "hyperpyyaml>=1.2.3",  # requires ruamel.yaml below 0.19, as 0.19 fails
    "ruamel.yaml>=0.17.33",  # hyperpyyaml takes 0.17.28, in which references to attributes (!ref <a.b>) fail
    f"speechbrain_ee_runtime=={VERSION}",  # of this repository: pip install ./runtime
    "numpy>=1.24",
    "soundfile>=0.13",
    "sentencepiece>=0.2.0",
    "kaldialign>=0.9.1",
    "matplotlib>=3.8",
    "scipy>=1.11",
    "scikit-learn>=1.4",  # learned score, isotonic confidence
    "typer>=0.20",  # first version that works with click 8.3
    "rich>=13.7",
    "safetensors>=0.4.3",
    "filelock>=3.13",  # required by torch too
    "huggingface_hub>=0.30",
    "jinja2>=3.1",  # model cards; required by torch too
    "pyyaml>=6.0",  # required by huggingface_hub too
]
# The wheel contains KenLM; there is no wheel for Python 3.13 or newer.
FLASHLIGHT = 'flashlight-text>=0.0.7; python_version < "3.13"'
EXTRAS = {
    "synth": ["espeakng-loader>=0.2.4"],  # GPL-3; imported only to generate the synthetic corpus
    "lm": ["ufal.kenlm>=26.4", "pygtrie>=2.5", FLASHLIGHT],  # the package kenlm has no wheels and needs a compiler
    "onnx": ["onnx>=1.18", "onnxscript>=0.4"],  # to export; the exported model needs only speechbrain_ee_runtime
    "ssl": ["transformers>=4.50"],
    "ray": ["ray[data]>=2.60"],  # to transcribe on several machines
    "report": ["plotly>=6.0"],
    "lhotse": ["lhotse>=1.24"],  # to read its cut manifests
    "tensorboard": ["tensorboard>=2.17"],
    "sweep": ["optuna>=4.0"],  # only benchmarks/sweep.py; 4.0 has the storage in a file
}
EXTRAS["dev"] = [
    "pytest>=8.2",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    *EXTRAS["synth"],
    *EXTRAS["tensorboard"],
    *EXTRAS["sweep"],
    *EXTRAS["report"],
    *EXTRAS["lhotse"],
    *EXTRAS["ssl"],
    *EXTRAS["lm"],
    *EXTRAS["onnx"],
    "playwright>=1.48",  # controls an installed chromium
]

# PyPI has no other files of the repository: figures are left out, and links to files become text.
DESCRIPTION = re.sub(r"!\[[^\]]*\]\([^)]*\)\n\n", "", (ROOT / "README.md").read_text(encoding="utf-8"))
DESCRIPTION = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", DESCRIPTION)

setup(
    name="speechbrain_ee",
    version=VERSION,
    description="Early-exit speech recognition for SpeechBrain",
    long_description=DESCRIPTION,
    long_description_content_type="text/markdown",
    author="The authors of speechbrain_ee",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["speech recognition", "early exit", "SpeechBrain", "ASR"],
    project_urls={"Paper": "https://arxiv.org/abs/2309.09546"},
    packages=find_packages(include=["speechbrain_ee", "speechbrain_ee.*"]),
    package_data={
        "speechbrain_ee.evaluation.page": ["page.html", "page.css", "page.js"],
        "speechbrain_ee.app.page": ["*.html", "*.css", "*.js", "*.svg", "LICENSE-onnxruntime"],
        "speechbrain_ee.hub": ["card.md", "apache-2.0.txt"],
    },
    python_requires=">=3.10",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["speechbrain-ee = speechbrain_ee.cli.app:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
