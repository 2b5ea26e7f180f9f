# SPDX-License-Identifier: Apache-2.0
"""Measure the time and memory of a training step with exits, relative to one exit and to SpeechBrain.

python benchmarks/train_step.py [--rounds 7]

Prints the ratios as JSON and writes them to results/train_step.json. A step is forward and backward of a model of the
paper's shape on 8 utterances of 7 to 10 s (random features), on one thread.

* ``six_exits_over_one``: a model with six exits relative to the same model with one exit.
* ``one_exit_over_speechbrain``: a model with one exit relative to SpeechBrain's TransformerASR.encode, a linear layer
  and ctc_loss, with the same attention and front-end.
"""

import argparse

import torch
from common import (
    EXIT_LAYERS,
    PAPER,
    VOCAB_SIZE,
    alternate,
    make_model,
    peak_memory_mb,
    print_peak_memory,
    publish,
    ratio,
)
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.losses import ctc_loss

from speechbrain_ee.training.losses import ExitCTCLoss

FRAMES = [1000, 950, 900, 850, 800, 775, 750, 700]


def make_batch():
    """Return features (batch, frames, mels), lengths, tokens and token lengths."""
    torch.manual_seed(1)
    tokens = torch.randint(3, VOCAB_SIZE, (len(FRAMES), 40))
    return torch.randn(len(FRAMES), max(FRAMES), 80), torch.tensor(FRAMES), tokens, torch.full((len(FRAMES),), 40)


def our_step(exit_layers, attention_type="regularMHA"):
    """Return a function that runs a training step of speechbrain_ee."""
    encoder, heads = make_model(exit_layers, attention_type=attention_type)
    loss_fn = ExitCTCLoss(exit_layers=exit_layers)
    feats, lengths, tokens, token_lengths = make_batch()

    def step():
        states, frames = encoder(feats, lengths)
        loss, _ = loss_fn(heads(states, frames), tokens, token_lengths)
        loss.backward()
        for parameter in [*encoder.parameters(), *heads.parameters()]:
            parameter.grad = None

    return step


def stock_step(attention_type="regularMHA"):
    """Return a function that runs the same step with SpeechBrain's encode and ctc_loss; the front-end is shared."""
    encoder, heads = make_model([12], attention_type=attention_type)
    stock = TransformerASR(
        tgt_vocab=1,
        input_size=encoder.frontend.output_size,
        d_model=PAPER["d_model"],
        nhead=PAPER["nhead"],
        num_encoder_layers=12,
        num_decoder_layers=0,
        d_ffn=PAPER["d_ffn"],
        kernel_size=PAPER["kernel_size"],
        encoder_module="conformer",
        attention_type=attention_type,
        normalize_before=True,
        causal=False,
    )
    linear = torch.nn.Linear(PAPER["d_model"], VOCAB_SIZE)
    feats, lengths, tokens, token_lengths = make_batch()
    modules = torch.nn.ModuleList([encoder.frontend, stock, linear])

    def step():
        x, frames = encoder.frontend(feats, lengths)
        wav_lens = frames / x.shape[1]
        log_probs = linear(stock.encode(x, wav_lens)).log_softmax(-1)
        ctc_loss(log_probs, tokens, wav_lens, torch.ones(len(tokens)), 0).backward()
        for parameter in modules.parameters():
            parameter.grad = None

    return step


STEPS = {
    "six_exits": lambda: our_step(EXIT_LAYERS),
    "one_exit": lambda: our_step([12]),
    "speechbrain": stock_step,
}


def main() -> None:
    """Measure time and memory of all steps and publish the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each step")
    parser.add_argument("--memory", choices=STEPS, help="only measure the peak memory of this step")
    args = parser.parse_args()
    if args.memory:
        return print_peak_memory(STEPS[args.memory])
    torch.set_num_threads(1)
    memory = {name: peak_memory_mb(__file__, name) for name in STEPS}
    seconds = alternate({name: make_step() for name, make_step in STEPS.items()}, args.rounds)
    return publish(
        "train_step",
        {
            "shape": PAPER,
            "six_exits_over_one": ratio(seconds, "six_exits", "one_exit"),
            "one_exit_over_speechbrain": ratio(seconds, "one_exit", "speechbrain"),
            "seconds_min": {name: round(min(values), 3) for name, values in seconds.items()},
            "peak_memory_mb": {name: round(value) for name, value in memory.items()},
            "six_exits_over_one_memory": round(memory["six_exits"] / memory["one_exit"], 3),
            "one_exit_over_speechbrain_memory": round(memory["one_exit"] / memory["speechbrain"], 3),
        },
    )


if __name__ == "__main__":
    main()
