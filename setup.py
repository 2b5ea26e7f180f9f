# SPDX-License-Identifier: Apache-2.0
"""Package metadata; the bounds hold the versions that were tried together."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Read, not imported: importing the package would need its dependencies before they are installed.
INIT = (ROOT / "speechbrain_ee" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "([^"]+)"', INIT, re.MULTILINE).group(1)

INSTALL_REQUIRES = [
    "torch>=2.11",
    "torchaudio>=2.11",  # speechbrain imports it
    "speechbrain>=1.1.2,<1.2",  # 1.1.2 fixes the padding mask of a batch without a full-length one
    "hyperpyyaml>=1.2.3,<1.3",
    "ruamel.yaml>=0.18.17,<0.19",  # hyperpyyaml 1.2.3 fails with 0.19
    "numpy>=2.4,<3",
    "soundfile>=0.14,<0.15",
    "sentencepiece>=0.2.3,<0.3",
    "kaldialign>=0.12,<0.13",
    "rapidfuzz>=3.14,<4",  # edit distance of a live score; kaldialign counts S, D and I, and is slower
    "matplotlib>=3.11,<4",
    "scipy>=1.17,<2",
    "scikit-learn>=1.9,<2",  # learned score, isotonic confidence
    "typer>=0.29,<0.30",
    "rich>=15,<16",
    "safetensors>=0.8,<0.9",
    "filelock>=3.20,<4",  # torch has it too
    "huggingface_hub>=2.4,<3",
]
FLASHLIGHT = 'flashlight-text>=0.0.7,<0.1; python_version < "3.13"'  # KenLM is in its wheel; none for later Pythons
EXTRAS = {
    "synth": ["espeakng-loader>=0.2.4,<0.3"],  # GPL-3: only the script that makes data imports it
    "lm": ["kenlm>=0.3,<0.4", "pygtrie>=2.5,<3", FLASHLIGHT],
    "onnx": ["onnx>=1.23,<2", "onnxscript>=0.7.2,<0.8", "onnxruntime>=1.31,<2"],
    "ssl": ["transformers>=5.23,<6"],
    "report": ["plotly>=7.1,<8"],
    "tensorboard": ["tensorboard>=2.21,<3"],
}
EXTRAS["dev"] = [
    "pytest>=9.2,<10",
    "pytest-timeout>=2.4,<3",
    "ruff>=0.17.6,<0.18",  # another release formats otherwise
    "yamllint>=1.38,<2",
    "codespell>=2.4.3,<3",
    *EXTRAS["synth"],
    *EXTRAS["tensorboard"],
    *EXTRAS["report"],
    *EXTRAS["ssl"],
    FLASHLIGHT,
    "mapie>=1.6,<2",  # a test compares p-values
    "playwright>=1.65,<2",  # drives Debian's chromium, where it is installed
]

setup(
    name="speechbrain_ee",
    version=VERSION,
    description="Early-exit speech recognition for SpeechBrain",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["speechbrain_ee", "speechbrain_ee.*"]),
    package_data={"speechbrain_ee.explorer": ["page.html", "page.css", "page.js"]},
    python_requires=">=3.11",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["speechbrain-ee = speechbrain_ee.cli:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
