# SPDX-License-Identifier: Apache-2.0
"""SpeechBrain's LibriSpeech recipes on a corpus of tones, as they are and with the changes of the examples."""

import csv
import subprocess

import sentencepiece
import torch
from recipes.tiny import ROOT, SPLITS, VOCAB_SIZE, read_rows, train, write_corpus
from speechbrain.lobes.models.transformer.TransformerLM import TransformerLM

RECIPES = ROOT / "examples/speechbrain_recipes"
YAMLS = {"ctc": "hparams/conformer_large.yaml", "transformer": "hparams/conformer_small.yaml"}
EXITS = {"ctc": "[3, 6, 9, 12, 15, 18]", "transformer": "[3, 6, 9, 12]"}
LM = {"d_model": 16, "nhead": 2, "num_encoder_layers": 1, "d_ffn": 16}
OPTIONS = {
    "device": "cpu",
    "skip_prep": True,
    "output_neurons": VOCAB_SIZE,
    "d_model": 16,
    "nhead": 2,
    "d_ffn": 24,
    "num_encoder_layers": 2,
    "number_of_epochs": 2,
    "batch_size": SPLITS["train"],  # one step per epoch
    "dynamic_batching": False,
    "num_workers": 0,
    "grad_accumulation_factor": 1,
    "avg_checkpoints": 2,
    "noam_annealing": {"n_warmup_steps": 2},
}
OF_RECIPE = {
    "ctc": {"beam_size": 2, "lr_model": 0.01},
    "transformer": {
        "num_decoder_layers": 1,
        "lr_adam": 0.01,
        "valid_search_interval": 2,
        "valid_beam_size": 2,
        "test_beam_size": 2,
        "lm_model": LM,
    },
}


def write_data(folder):
    """Write the corpus as SpeechBrain's CSV, with ``$data_root``; returns the folder."""
    write_corpus(folder)
    for split in SPLITS:
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["ID", "duration", "wav", "spk_id", "wrd"])
            for row in read_rows(folder / f"{split}.jsonl"):
                audio = f"$data_root/{row['audio_filepath']}"
                writer.writerow([row["id"], row["duration"], audio, row["speaker"], row["text"]])
    return folder


def write_language_model(folder, corpus):
    """Write what the Transformer recipe downloads: a tokenizer and a language model."""
    folder.mkdir()
    texts = (row["text"] for row in read_rows(corpus / "train.jsonl"))
    with open(folder / "tokenizer.ckpt", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=texts, model_writer=file, model_type="char", vocab_size=VOCAB_SIZE, minloglevel=2
        )
    options = {"num_decoder_layers": 0, "dropout": 0.0, "activation": torch.nn.GELU, "normalize_before": False}
    torch.save(TransformerLM(vocab=VOCAB_SIZE, **LM, **options).state_dict(), folder / "lm.ckpt")
    return folder


def copy_recipe(name, folder, diffs):
    """Copy a recipe, apply diffs to it, and put the exits after layers 1 and 2."""
    (folder / "hparams").mkdir(parents=True)
    for file in ("train.py", YAMLS[name]):
        (folder / file).write_text((RECIPES / name / file).read_text("utf-8"), "utf-8")
    for diff in diffs:
        path = RECIPES / name / f"{diff}.diff"
        subprocess.run(["git", "apply", "--whitespace=nowarn", str(path)], cwd=folder, check=True)
    yaml = (folder / YAMLS[name]).read_text("utf-8")
    assert yaml.count(EXITS[name]) == ("exits" in diffs)
    (folder / YAMLS[name]).write_text(yaml.replace(EXITS[name], "[1, 2]"), "utf-8")
    # The recipe prepares LibriSpeech here; the corpus of tones is prepared already.
    (folder / "librispeech_prepare.py").write_text("def prepare_librispeech(**_):\n    pass\n", "utf-8")
    return folder


def run_recipe(name, folder, corpus, *, diffs=("exits", "run_folder")):
    """Train and test; returns the output folder."""
    recipe, out = copy_recipe(name, folder / "recipe", diffs), folder / "results"
    options = OPTIONS | OF_RECIPE[name] | {"data_folder": corpus, "output_folder": out}
    options |= {"train_csv": corpus / "train.csv", "valid_csv": corpus / "dev.csv"}
    options["test_csv"] = f"[{corpus / 'test.csv'}]"
    if name == "transformer":
        options["pretrained_lm_tokenizer_path"] = write_language_model(folder / "lm", corpus)
    argv = [YAMLS[name], "--noprogressbar"]
    for key, value in options.items():
        argv += [f"--{key}", str(value)]
    ended = train(argv, folder / "logs", script=recipe / "train.py")
    assert ended.status == 0, ended.stderr[-3000:]
    return out
