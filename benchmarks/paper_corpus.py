# SPDX-License-Identifier: Apache-2.0
"""The corpus of the paper's experiment: a recipe and its manifests, or manifests alone."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_RECIPE = ROOT / "recipes" / "LibriSpeech"


@dataclass(frozen=True)
class Corpus:
    """A corpus: its recipe, and its manifests."""

    name: str
    recipe: Path
    data: Path
    train: list[Path]
    dev: Path
    tests: list[Path]

    def options(self, out: Path) -> list[str]:
        """Return the options of train.py that choose the data."""
        tests = ", ".join(map(str, self.tests))
        return [
            *("--data_folder", str(self.data), "--train_manifest", str(self.train_manifest(out))),
            *("--valid_manifest", str(self.dev), "--test_manifests", f"[{tests}]"),
        ]

    def train_manifest(self, out: Path) -> Path:
        """Return the manifest to train on: the only one, or the one that joins several."""
        return self.train[0] if len(self.train) == 1 else out / "train.jsonl"

    def prepare(self, out: Path) -> None:
        """Check that the manifests exist, and join those for training if there are several.

        Raises
        ------
        ValueError
            If a manifest is missing, or two test sets have the same name.
        """
        from speechbrain_ee.corpora.manifest import read_manifest, write_manifest

        if repeated := sorted(name for name, count in Counter(one.stem for one in self.tests).items() if count > 1):
            raise ValueError(f"two test sets are named {' and '.join(repeated)}: rename one")
        if missing := [str(one) for one in [*self.train, self.dev, *self.tests] if not one.is_file()]:
            raise ValueError(f"{', '.join(missing)} missing: prepare the corpus {self.name}, or give another --data")
        if len(self.train) > 1:
            joined = [one for path in self.train for one in read_manifest(path)]
            write_manifest(self.train_manifest(out), joined)


def recipe_corpus(recipe: Path, data: Path) -> Corpus:
    """Return the corpus of a recipe, with the manifests that its yaml names.

    Raises
    ------
    ValueError
        If the folder is not a recipe, or its corpus is counted in characters, which the paper does not do.
    """
    yaml = recipe / "hparams" / "conformer_ee.yaml"
    if not yaml.is_file():
        raise ValueError(f"--corpus {recipe}: there is no {yaml}; give a folder such as recipes/LibriSpeech")
    settings = read_settings(yaml, ["--data_folder", str(data)])
    if settings["error_unit"] != "word":
        raise ValueError(f"--corpus {recipe}: it counts characters, and the paper words: train it with its own yaml")
    paths = {name: settings[f"{name}_manifest"] for name in ("train", "valid")}
    tests = [Path(one) for one in settings["test_manifests"]]
    return Corpus(recipe.resolve().name, recipe, data, [Path(paths["train"])], Path(paths["valid"]), tests)


def read_settings(yaml: Path, options: list[str]) -> dict:
    """Return the values of a yaml with options of train.py, without building its objects."""
    from hyperpyyaml import resolve_references
    from ruamel.yaml import YAML

    from speechbrain_ee.training.command_line import parse_arguments

    path, _, settings = parse_arguments([str(yaml), *options])
    with open(path, encoding="utf-8") as file:
        return YAML(typ="rt").load(resolve_references(file, settings))
