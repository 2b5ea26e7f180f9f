# SPDX-License-Identifier: Apache-2.0
"""Measure torch.compile on the demo's model on a CPU: time to compile, graphs, recompilations, and time of a step.

python benchmarks/compile.py [--rounds 7] [--variants encoder layers] [--graphs]

Prints the figures as JSON and writes them to results/compile.json. The batches have different lengths and the limits of
hparams/conformer_ee.yaml. Requires a C++ compiler. The variants:

* ``encoder``, ``encoder+heads``, ``all``: these modules are compiled as a whole, as with train.py's ``--compile`` and
  ``--compile_module_keys``.
* ``layers``: each encoder layer is compiled by itself. The layers share their code, and inference, which calls layers
  one by one, runs it too.

* ``training``: forward and backward of all batches; ``inference``: the forward of the features and the encoder, in
  evaluation mode. Each is timed in turn with the model that is not compiled, on one thread.
* ``first_pass_s``: seconds of the first pass over the batches, with compilation.

With ``--graphs``, only graphs and graph breaks are counted, on three of the batches and without a C++ compiler (backend
``aot_eager``). These counts do not depend on the load of the machine; they are written to results/compile_graphs.json.
"""

import argparse
import copy
import importlib
import json
import time

import torch

from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads, LogMel
from speechbrain_ee.training.losses import ExitCTCLoss

EXIT_LAYERS = [1, 2, 3, 4, 5, 6]
DEMO = {
    "n_mels": 40,
    "num_layers": 6,
    "d_model": 96,
    "nhead": 4,
    "d_ffn": 384,
    "kernel_size": 7,
    "dropout": 0.0,
    "channels": [32, 32],
}
VOCAB_SIZE = 31
LONGEST_S = (0.8, 1.2, 1.5, 1.7, 1.9, 2.1, 2.3, 2.5, 2.8, 3.1)  # the longest utterance of each batch
FEW_S = (0.8, 1.7, 2.1)  # batches of 16, 11 and 9 utterances
MAX_BATCH_SECONDS, MAX_BATCH_SIZE = 20.0, 16
VARIANTS = {
    "encoder": ["encoder"],
    "encoder+heads": ["encoder", "heads"],
    "all": ["features", "encoder", "heads"],
    "layers": [],
}


def make_modules() -> torch.nn.ModuleDict:
    """Return the modules of the demo's yaml with random weights."""
    torch.manual_seed(0)
    encoder = ConformerExitEncoder(exit_layers=EXIT_LAYERS, **DEMO)
    heads = CTCHeads(num_exits=len(EXIT_LAYERS), d_model=DEMO["d_model"], vocab_size=VOCAB_SIZE)
    return torch.nn.ModuleDict({"features": LogMel(n_mels=DEMO["n_mels"]), "encoder": encoder, "heads": heads})


def make_batches(longest_s=LONGEST_S) -> list[tuple]:
    """Return batches of noise: waveforms (batch, samples), lengths, tokens (batch, tokens) and their lengths."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for seconds in longest_s:
        size = min(MAX_BATCH_SIZE, int(MAX_BATCH_SECONDS / seconds))
        shares = torch.linspace(0.9, 1.0, size)
        samples = (shares * seconds * 16000).long()
        wavs = torch.randn(size, int(samples.max()), generator=generator)
        tokens = torch.randint(3, VOCAB_SIZE, (size, int(5 * seconds)), generator=generator)
        batches.append((wavs, samples, tokens, torch.full((size,), tokens.shape[1])))
    return batches


def compiled(modules: torch.nn.ModuleDict, variant: str, backend: str = "inductor") -> torch.nn.ModuleDict:
    """Return a copy of the modules, compiled as the variant says."""
    modules = copy.deepcopy(modules)
    for name in VARIANTS[variant]:
        modules[name] = torch.compile(modules[name], backend=backend)
    if variant == "layers":
        for layer in modules["encoder"].layers:
            layer.compile(backend=backend)
    return modules


def training_pass(modules: torch.nn.ModuleDict, batches: list[tuple]):
    """Return a function that runs forward and backward of all batches and returns the losses."""
    loss_fn = ExitCTCLoss(exit_layers=EXIT_LAYERS)

    def run() -> list[float]:
        modules.train()
        losses = []
        for wavs, samples, tokens, token_lengths in batches:
            outputs = modules["heads"](*modules["encoder"](*modules["features"](wavs, samples)))
            loss, _ = loss_fn(outputs, tokens, token_lengths)
            loss.backward()
            losses.append(loss.item())
            for parameter in modules.parameters():
                parameter.grad = None
        return losses

    return run


def inference_pass(modules: torch.nn.ModuleDict, batches: list[tuple]):
    """Return a function that runs the features and the encoder on all batches."""

    @torch.inference_mode()
    def run() -> list[float]:
        modules.eval()
        states = (modules["encoder"](*modules["features"](wavs, samples))[0] for wavs, samples, _, _ in batches)
        return [state[-1].abs().mean().item() for state in states]

    return run


def dynamo_counters() -> dict:
    """Return torch's counts of graphs and graph breaks; torch has no public function for them."""
    return importlib.import_module("torch._dynamo.utils").counters


def count_graphs(make_pass, modules: torch.nn.ModuleDict, variant: str) -> dict:
    """Count the graphs and graph breaks of a variant, and compare its results with those of eager mode."""
    torch.compiler.reset()
    counters = dynamo_counters()
    counters.clear()
    batches = make_batches(FEW_S)
    found = make_pass(compiled(modules, variant, "aot_eager"), batches)()
    eager = make_pass(modules, batches)()
    return {
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "reasons_of_breaks": sorted({reason.strip().splitlines()[0][:120] for reason in counters["graph_break"]}),
        "largest_relative_difference": max(abs(a - b) / abs(b) for a, b in zip(found, eager, strict=True)),
    }


def measure(make_pass, modules: torch.nn.ModuleDict, variant: str, num_rounds: int) -> dict:
    """Compile a variant, and time it in turn with the modules that are not compiled."""
    from common import alternate, ratio

    torch.compiler.reset()
    batches = make_batches()
    plain, fast = make_pass(modules, batches), make_pass(compiled(modules, variant), batches)
    begin = time.perf_counter()
    found = fast()
    first_pass_s = time.perf_counter() - begin
    difference = max(abs(a - b) / abs(b) for a, b in zip(found, plain(), strict=True))
    seconds = alternate({"compiled": fast, "eager": plain}, num_rounds)
    return {
        "compiled_over_eager": ratio(seconds, "compiled", "eager"),
        "first_pass_s": round(first_pass_s, 1),
        "eager_pass_s": round(min(seconds["eager"]), 3),
        "largest_relative_difference": float(f"{difference:.1e}"),
    }


def markdown(found: dict) -> str:
    """Return a table of the graphs and graph breaks of each variant."""
    lines = ["| compiled | training: graphs, breaks | inference: graphs, breaks |", "|---|---|---|"]
    for variant in found["training"]:
        rows = [found[task][variant] for task in ("training", "inference")]
        cells = [f"{one['graphs']}, {one['graph_breaks']}" for one in rows]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all variants and publish the figures."""
    from common import RESULTS, publish

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed passes of each variant")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="what is compiled")
    parser.add_argument("--graphs", action="store_true", help="only count graphs and graph breaks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    modules = make_modules()
    found = {"training": {}, "inference": {}}
    for variant in args.variants:
        for task, make_pass in (("training", training_pass), ("inference", inference_pass)):
            one = (modules, variant)
            found[task][variant] = (
                count_graphs(make_pass, *one) if args.graphs else measure(make_pass, *one, args.rounds)
            )
            print(task, variant, found[task][variant], flush=True)
    if not args.graphs:
        publish("compile", {"batches": len(LONGEST_S), "rounds": args.rounds} | found)
        return
    text = json.dumps({"benchmark": "compile_graphs", "torch": torch.__version__} | found, indent=2)
    (RESULTS / "compile_graphs.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
