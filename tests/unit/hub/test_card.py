# SPDX-License-Identifier: Apache-2.0
"""Model cards: huggingface_hub accepts them, and every number is one of exits.json or of the calibration."""

import json
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from ee_runtime.calibration.summary import summary
from speechbrain_ee.evaluation.tables import exits_markdown
from speechbrain_ee.hub.card import CardFacts, ModelFacts, model_card

CONFIG = {
    "encoder": {"class": "ConformerExitEncoder", "num_layers": 12, "exit_layers": [2, 12]},
    "heads": {"class": "CTCHeads"},
}


@pytest.fixture
def card(made):
    return ModelCard.load(made / "README.md")


def test_the_hub_reads_the_metadata(card):
    data = card.data.to_dict()
    assert data["library_name"] == "speechbrain" and data["pipeline_tag"] == "automatic-speech-recognition"
    assert (data["language"], data["license"], data["datasets"]) == (["en"], "apache-2.0", ["user/data"])
    assert {"early-exit", "conformer", "ctc"} <= set(data["tags"])


def test_the_metadata_has_the_error_rates_of_every_exit(card, made):
    found = {(one.dataset_name, one.metric_type, one.metric_args["exit_layer"]): one for one in card.data.eval_results}
    for name in ("dev", "test"):
        exits = json.loads((made / "eval" / name / "exits.json").read_text())
        for row in exits["exits"]:
            wer = found.pop((name, "wer", row["layer"]))
            assert wer.metric_value == row["wer"] and wer.metric_args["ci95"] == row["wer_ci95"]
            assert wer.metric_args["decoding"] == exits["decoding"]
            assert found.pop((name, "cer", row["layer"])).metric_value == row["cer"]
    assert not found


def test_every_number_in_the_text_is_one_of_the_files(card, made):
    exits = {name: json.loads((made / "eval" / name / "exits.json").read_text()) for name in ("dev", "test")}
    calibration = json.loads((made / "calibration.json").read_text())
    text, known = card.text, [exits_markdown(one).strip() for one in exits.values()]
    known += [f"{one['num_utterances']} utterances, {one['num_words']} words" for one in exits.values()]
    known += [
        "after layers 1, 2, 4",
        "with 4 layers",
        "exit layer 4",
        f"threshold {calibration['policy']['threshold']}",
    ]
    known += summary(calibration).split("\n")
    known += ["2309.09546", "float32", "wright2023training", "year = {2023}", "apache-2.0", "cc-by-4.0"]
    for one in sorted(known, key=len, reverse=True):
        assert one in card.text, one
        text = text.replace(one, "")
    assert re.findall(r"\d+(?:\.\d+)?", text) == []


def test_pictures_and_files_that_it_names_are_there(card, made):
    for path in re.findall(r"!\[[^]]*]\(([^)]+)\)", card.text):
        assert (made / path).is_file(), path
    for name in re.findall(r"`([\w.]+\.(?:json|yaml|safetensors|model))`", card.text):
        assert (made / name).is_file(), name


def facts(**changes):
    values = {"config": CONFIG, "results": {}, "calibration": None, "stock": ("EncoderASR", 12), "onnx": None}
    return ModelFacts(**values | changes)


AUTHOR = CardFacts(hub_name="user/name")


@pytest.mark.parametrize(
    ("author", "model", "said", "not_said"),
    [
        (AUTHOR, facts(), "published without evaluations", "MACs %"),
        (AUTHOR, facts(), "has no calibrated policy", "calibrate again"),
        (AUTHOR, facts(), "The author does not say which data", "licence not stated"),
        (AUTHOR, facts(), 'EncoderASR.from_hparams("user/name")', "ee-transcribe"),
        (AUTHOR, facts(onnx="fp32"), "ee-transcribe --model model/onnx", "8 bits"),
        (AUTHOR, facts(onnx="int8"), "quantised to 8 bits", "cannot load this model"),
        (AUTHOR, facts(stock="no stock class"), "cannot load this model: no stock class.", "hyperparams.yaml"),
        (replace(AUTHOR, datasets={"my speech": None}), facts(), "- my speech: licence not stated", "\ndatasets:"),
        (replace(AUTHOR, title="A *title*"), facts(), "# A *title*", "# name"),
    ],
)
def test_sections_say_what_is_there_and_only_that(author, model, said, not_said):
    text = model_card(author, model)
    assert said in text and not_said not in text
    assert "None" not in text and "{{" not in text and "{%" not in text and "\n\n\n" not in text
    assert ModelCard(text).data.to_dict()["library_name"] == "speechbrain"


@pytest.mark.parametrize("wrong", [{"hub_name": "name"}, {"hub_name": "a b/c"}, {"languages": ["english"]}])
def test_a_wrong_name_or_language_is_refused(wrong):
    with pytest.raises(ValueError, match="is not a name on the Hub|give a code of two or three letters"):
        replace(AUTHOR, **wrong)


def test_attention_decoders_are_mentioned():
    text = model_card(AUTHOR, facts(config=CONFIG | {"heads": {"class": "JointHeads"}}))
    assert "hybrid CTC/attention exits" in text and "- ctc-attention" in text
