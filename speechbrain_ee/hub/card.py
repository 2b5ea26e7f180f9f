# SPDX-License-Identifier: Apache-2.0
"""The model card of a bundle: metadata of the HuggingFace Hub, and a README for people.

Every number comes from the ``exits.json`` of an evaluated set or from ``calibration.json``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ee_runtime.calibration.summary import summary
from speechbrain_ee.evaluation.tables import exits_markdown, set_size
from speechbrain_ee.hub_download import check_name

CARD_FILE = "README.md"
TASK = "automatic-speech-recognition"
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
HUB_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)  # other names are in the text only
FAMILIES = {
    "ConformerExitEncoder": "Conformer",
    "TransformerExitEncoder": "Transformer",
    "Wav2Vec2ExitEncoder": "wav2vec 2.0",
    "HubertExitEncoder": "HuBERT",
    "WavLMExitEncoder": "WavLM",
    "WhisperExitEncoder": "Whisper encoder",
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the author says about a model; nothing of it can be read from its files.

    Arguments
    ---------
    hub_name : str
        ``user/name`` on the Hub, for the examples.
    title : str | None
        Heading; None means the name without the user.
    languages : Sequence[str]
        Codes such as ``en``.
    datasets : Mapping[str, str | None]
        Training data: licence by name; None means that the licence is not stated. Names of data sets on the Hub have
        the form ``name`` or ``user/name``.
    license : str
        Identifier of the model's licence on the Hub, such as ``apache-2.0``.

    Raises
    ------
    ValueError
        If the name or the code of a language is none.
    """

    hub_name: str
    title: str | None = None
    languages: Sequence[str] = ()
    datasets: Mapping[str, str | None] = field(default_factory=dict)
    license: str = "apache-2.0"

    def __post_init__(self):
        check_name(self.hub_name)
        for one in self.languages:
            if not LANGUAGE.fullmatch(one):
                raise ValueError(f"language {one!r}: give a code of two or three letters, such as en or cmn")

    @property
    def name(self) -> str:
        """The name on the Hub without the user."""
        return self.hub_name.rpartition("/")[2]

    def lacks(self) -> list[str]:
        """Return what a complete card has and this one has not, each with the option that sets it."""
        missing = []
        if not self.languages:
            missing.append("the language (--language en)")
        if not self.datasets:
            missing.append("the training data (--dataset NAME=LICENCE)")
        unknown = [name for name, licence in self.datasets.items() if not licence]
        missing += [f"the licence of {name} (--dataset {name}=LICENCE)" for name in unknown]
        return missing


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the files of a bundle say about its model.

    Arguments
    ---------
    config : Mapping
        Contents of ``config.json``.
    results : Mapping[str, Mapping]
        Contents of ``exits.json`` by the name of the folder in ``eval/``.
    calibration : Mapping | None
        Contents of ``calibration.json``.
    stock : tuple[str, int] | str
        SpeechBrain's class and the exit layer that it runs, or why there is none.
    onnx : str | None
        Precision of the graphs in ``onnx/``; None if there are none.
    """

    config: Mapping
    results: Mapping[str, Mapping]
    calibration: Mapping | None
    stock: tuple[str, int] | str
    onnx: str | None

    @property
    def family(self) -> str:
        """Name of the encoder."""
        return FAMILIES[self.config["encoder"]["class"]]

    @property
    def has_attention(self) -> bool:
        """Whether an exit has an attention decoder."""
        return self.config["heads"]["class"] == "JointHeads"


def model_card(author: CardFacts, model: ModelFacts) -> str:
    """Return the model card: metadata in YAML, then Markdown, from the template ``card.md``.

    Raises
    ------
    ValueError
        If huggingface_hub refuses the metadata.
    """
    encoder, has_stock = model.config["encoder"], not isinstance(model.stock, str)
    card = ModelCard.from_template(
        card_data(author, model),
        template_path=str(Path(__file__).with_name("card.md")),
        title=author.title or author.name,
        hub_name=author.hub_name,
        family=model.family,
        num_layers=encoder["num_layers"],
        exit_layers=", ".join(map(str, encoder["exit_layers"])),
        heads="hybrid CTC/attention" if model.has_attention else "CTC",
        results=[
            exits | {"name": name, "size": set_size(exits), "table": exits_markdown(exits).strip()}
            for name, exits in model.results.items()
        ],
        calibration=summary(model.calibration).split("\n") if model.calibration else None,
        policy=_policy(model.calibration) if model.calibration else None,
        stock_class=model.stock[0] if has_stock else None,
        stock_layer=model.stock[1] if has_stock else None,
        not_stock=None if has_stock else model.stock,
        onnx=model.onnx,
        datasets=author.datasets,
        license=author.license,
    )
    return str(card).rstrip() + "\n"


def card_data(author: CardFacts, model: ModelFacts) -> ModelCardData:
    """Return the metadata of the card, with the WER and CER of every exit in its ``model-index``."""
    decoder = "ctc-attention" if model.has_attention else "ctc"
    tags = ["speechbrain", "early-exit", "pytorch", model.family.lower().replace(" ", "-"), decoder]
    return ModelCardData(
        language=list(author.languages) or None,
        license=author.license,
        library_name="speechbrain",
        pipeline_tag=TASK,
        tags=[*tags, *(["onnx"] if model.onnx else [])],
        datasets=[name for name in author.datasets if HUB_DATASET.fullmatch(name)] or None,
        metrics=["wer", "cer"],
        model_name=author.name,
        eval_results=[one for name, exits in model.results.items() for one in _eval_results(name, exits)] or None,
    )


def _eval_results(name: str, exits: Mapping) -> list[EvalResult]:
    found = []
    for row in exits["exits"]:
        where = {
            "task_type": TASK,
            "task_name": "Automatic Speech Recognition",
            "dataset_type": name,
            "dataset_name": name,
        }
        about = {"exit_layer": row["layer"], "decoding": exits["decoding"]}
        for metric in ("wer", "cer"):
            extra = {"ci95": row[f"{metric}_ci95"]} if f"{metric}_ci95" in row else {}
            if row[metric] is not None:
                label = f"{metric.upper()} at exit layer {row['layer']}"
                values = {"metric_type": metric, "metric_value": row[metric], "metric_name": label}
                found.append(EvalResult(**where, **values, metric_args=about | extra))
    return found


def _policy(calibration: Mapping) -> str:
    """Describe a policy by its plain values; a learned policy has tables too."""
    values = calibration["policy"].items()
    return ", ".join(f"{name} {value}" for name, value in values if isinstance(value, (str, int, float)))
