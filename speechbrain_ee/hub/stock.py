# SPDX-License-Identifier: Apache-2.0
"""One exit of a model as a stock SpeechBrain model, which loads where speechbrain_ee is not installed.

A CTC exit becomes a model for ``speechbrain.inference.ASR.EncoderASR``, an exit with an attention decoder one for
``EncoderDecoderASR``: ``hyperparams.yaml`` of stock classes, and the three files that its Pretrainer loads. Stock
modules mask less of the padding than ours, so texts are equal for single recordings, as ``transcribe_file`` runs them.
"""

from pathlib import Path

import torch
import yaml
from hyperpyyaml import load_hyperpyyaml
from torch import nn

from ee_runtime.files import write_whole
from ee_runtime.special_tokens import BLANK_INDEX, BOS_INDEX, EOS_INDEX
from speechbrain_ee.lobes import AttentionDecoder, ConformerExitEncoder, LogMel, TransformerExitEncoder

HPARAMS_FILE = "hyperparams.yaml"
STATE_FILES = {"model": "model.ckpt", "normalizer": "normalizer.ckpt", "tokenizer": "tokenizer.ckpt"}
STOCK_FILES = (HPARAMS_FILE, *STATE_FILES.values())
ENCODERS = {TransformerExitEncoder: "transformer", ConformerExitEncoder: "conformer"}
FBANK_NAMES = {"win_length_ms": "win_length", "hop_length_ms": "hop_length"}  # ours: the stock one's
TOLERANCE = 1e-4  # of log-probabilities in float32


class NotStock(ValueError):
    """A model has parts for which SpeechBrain has no stock class; the message names them."""


class _Tagged(dict):
    """A mapping with a HyperPyYAML tag."""

    def __init__(self, tag: str, values: dict):
        super().__init__(values)
        self.tag = tag


class _Ref(str):
    """The name of another top-level value."""


class _Dumper(yaml.SafeDumper):
    """Writes HyperPyYAML; YAML aliases are never needed."""

    def ignore_aliases(self, data):
        return True


_Dumper.add_representer(_Tagged, lambda dumper, one: dumper.represent_mapping(one.tag, one.items()))
_Dumper.add_representer(_Ref, lambda dumper, name: dumper.represent_scalar("!ref", f"<{name}>"))


def write_stock(folder: str | Path, modules: nn.ModuleDict, layer: int, *, tokenizer: str | Path) -> str:
    """Write one exit of a model for SpeechBrain's own classes, and check that it computes the same.

    Arguments
    ---------
    folder : str | Path
        Folder for ``hyperparams.yaml``, ``model.ckpt``, ``normalizer.ckpt`` and ``tokenizer.ckpt``.
    modules : nn.ModuleDict
        ``features``, ``encoder`` and ``heads``, on the CPU, in float32.
    layer : int
        The exit layer.
    tokenizer : str | Path
        The SentencePiece model.

    Returns
    -------
    str
        Name of the class in ``speechbrain.inference.ASR`` that loads the folder.

    Raises
    ------
    NotStock
        If SpeechBrain has no stock class for a part of the model.
    ValueError
        If the layer is not an exit.
    """
    exit_layers = list(modules["encoder"].exit_layers)
    if layer not in exit_layers:
        raise ValueError(f"layer {layer} is not an exit of the model: choose from {exit_layers}")
    exit_index = exit_layers.index(layer)
    decoder = _decoder(modules["heads"], exit_index)
    interface = "EncoderASR" if decoder is None else "EncoderDecoderASR"
    text = _header(interface, layer, modules["encoder"].num_layers) + yaml.dump(
        _hparams(modules, exit_index, decoder), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120
    )
    stock = load_hyperpyyaml(text)
    _copy_weights(stock["model"], modules, exit_index, decoder)
    _set_statistics(stock["normalizer"], modules["features"])
    check_equal(stock, modules, exit_index, decoder)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / HPARAMS_FILE, text.encode())
    torch.save(stock["model"].state_dict(), folder / STATE_FILES["model"])
    torch.save(_statistics(modules["features"]), folder / STATE_FILES["normalizer"])
    write_whole(folder / STATE_FILES["tokenizer"], Path(tokenizer).read_bytes())
    return interface


def _decoder(heads: nn.Module, exit_index: int) -> AttentionDecoder | None:
    return heads.decoder(exit_index) if heads.has_decoders else None


def _header(interface: str, layer: int, num_layers: int) -> str:
    return f"""\
# Exit layer {layer} of {num_layers} of an early-exit model, as a stock SpeechBrain model. With SpeechBrain alone:
#     from speechbrain.inference.ASR import {interface}
#     asr = {interface}.from_hparams("NAME ON THE HUB, OR FOLDER")
#     print(asr.transcribe_file("speech.wav"))
# All exits: speechbrain_ee reads config.json and model.safetensors of the same folder, and never this file.

"""


def _hparams(modules: nn.ModuleDict, exit_index: int, decoder: AttentionDecoder | None) -> dict:
    """Return the contents of ``hyperparams.yaml``."""
    features, encoder = modules["features"], modules["encoder"]
    if type(features) is not LogMel:
        raise NotStock(f"SpeechBrain has no stock class for the features {type(features).__name__} of saved weights")
    if type(encoder) not in ENCODERS:
        raise NotStock(f"SpeechBrain has no stock class for the encoder {type(encoder).__name__} of saved weights")
    activation = encoder.config["activation"]
    if decoder is not None and type(encoder) is TransformerExitEncoder and activation != "gelu":
        raise NotStock(f"TransformerASR has one activation, and this model has {activation} and gelu in the decoder")
    values = {
        "sample_rate": features.sample_rate,
        "n_mels": features.frame_size,
        "vocab_size": modules["heads"].config["vocab_size"],
        "compute_features": _new("speechbrain.lobes.features.Fbank", **_fbank(features.config)),
        "normalizer": _new("speechbrain.processing.features.InputNormalization", norm_type="global"),
        "CNN": _front_end(encoder),
        "Transformer": _transformer(encoder, exit_index, decoder),
        "encoder_layers": _new(
            "speechbrain.lobes.models.transformer.TransformerASR.EncoderWrapper", transformer=_Ref("Transformer")
        ),
    }
    steps = {"input_shape": [None, None, _Ref("n_mels")], "compute_features": _Ref("compute_features")}
    steps |= {"normalizer": _Ref("normalizer"), "CNN": _Ref("CNN"), "encoder_layers": _Ref("encoder_layers")}
    values |= _ctc_parts(modules["heads"], exit_index) if decoder is None else _attention_parts(decoder)
    if decoder is None:
        values["log_softmax"] = _new("speechbrain.nnet.activations.Softmax", apply_log=True)
        steps |= {"head": _Ref("head"), "log_softmax": _Ref("log_softmax")}
    values["encoder"] = _new("speechbrain.nnet.containers.LengthsCapableSequential", **steps)
    values["tokenizer"] = _new("sentencepiece.SentencePieceProcessor")
    values["model"] = _Tagged(
        "!new:torch.nn.ModuleList", {"modules": [_Ref(one) for one in ("CNN", "Transformer", "head")]}
    )
    values["modules"] = {name: _Ref(name) for name in ("encoder", "normalizer")}  # the latter for its device
    if decoder is not None:
        values["modules"]["decoder"] = _Ref("decoder")
    loadables = {name: _Ref(name) for name in STATE_FILES}
    values["pretrainer"] = _new("speechbrain.utils.parameter_transfer.Pretrainer", loadables=loadables)
    return values


def _new(name: str, **arguments) -> _Tagged:
    return _Tagged(f"!new:{name}", arguments)


def _fbank(config: dict) -> dict:
    return {FBANK_NAMES.get(name, name): value for name, value in config.items()} | {
        "sample_rate": _Ref("sample_rate"),
        "n_mels": _Ref("n_mels"),
    }


def _front_end(encoder: TransformerExitEncoder) -> _Tagged:
    """Return the stock front-end, which pads as :class:`~speechbrain_ee.lobes.frontend.ConvSubsampling` does."""
    blocks = len(encoder.frontend.channels)
    convolution = _Tagged("!name:speechbrain.nnet.CNN.Conv2d", {"padding_mode": encoder.frontend.padding_mode})
    return _new(
        "speechbrain.lobes.models.convolution.ConvolutionFrontEnd",
        input_shape=[None, None, _Ref("n_mels")],
        num_blocks=blocks,
        num_layers_per_block=1,
        out_channels=encoder.frontend.channels,
        kernel_sizes=[encoder.frontend.kernel_size] * blocks,
        strides=[encoder.frontend.stride] * blocks,
        residuals=[False] * blocks,
        conv_module=convolution,
        dropout=0.0,
    )


def _transformer(encoder: TransformerExitEncoder, exit_index: int, decoder: AttentionDecoder | None) -> _Tagged:
    config, attention = encoder.config, encoder.config["attention_type"]
    same = {name: config[name] for name in ("d_model", "nhead", "d_ffn", "max_length")}
    layers = {"num_decoder_layers": 0}
    if decoder is not None:
        for name in ("nhead", "d_ffn"):
            if decoder.config[name] != config[name]:
                raise NotStock(
                    f"TransformerASR has one {name} for encoder and decoder, and this model has {config[name]} and "
                    f"{decoder.config[name]}"
                )
        same["max_length"] = max(same["max_length"], decoder.max_length)
        layers = {
            "num_decoder_layers": decoder.config["num_layers"],
        }
    uses_gelu = decoder is not None or encoder.config["activation"] == "gelu"
    return _new(
        "speechbrain.lobes.models.transformer.TransformerASR.TransformerASR",
        tgt_vocab=_Ref("vocab_size"),
        input_size=encoder.frontend.output_size,
        encoder_module=ENCODERS[type(encoder)],
        num_encoder_layers=encoder.exit_layers[exit_index],
        attention_type=attention,
        positional_encoding="fixed_abs_sine" if attention == "regularMHA" else None,
        activation=_Tagged(f"!name:torch.nn.{'GELU' if uses_gelu else 'ReLU'}", {}),  # a Conformer: of the decoder
        normalize_before=True,
        causal=False,
        dropout=0.0,
        **same,
        **layers,
        **({"kernel_size": config["kernel_size"]} if "kernel_size" in config else {}),
    )


def _ctc_parts(heads: nn.Module, exit_index: int) -> dict:
    """Return the parts of ``hyperparams.yaml`` that only CTC models have."""
    stock_layers = []
    for module in heads.modules_of(exit_index)[0]:
        if isinstance(module, nn.Linear):
            sizes = {"in_features": module.in_features, "out_features": module.out_features}
            stock_layers.append(_new("torch.nn.Linear", **sizes))
        elif isinstance(module, nn.LayerNorm):
            stock_layers.append(_new("torch.nn.LayerNorm", normalized_shape=list(module.normalized_shape)))
        elif isinstance(module, nn.GELU):
            stock_layers.append(_new("torch.nn.GELU"))
        elif not isinstance(module, nn.Dropout):
            raise NotStock(f"SpeechBrain has no stock class for exit heads of kind {heads.config['kind']}")
    names = {f"head_{number}": layer for number, layer in enumerate(stock_layers)}
    return names | {
        "head": _Tagged("!new:speechbrain.nnet.containers.Sequential", {name: _Ref(name) for name in names}),
        "decoding_function": _Tagged("!name:speechbrain.decoders.ctc_greedy_decode", {"blank_id": BLANK_INDEX}),
    }


def _attention_parts(decoder: AttentionDecoder) -> dict:
    """Return the parts of ``hyperparams.yaml`` that only models with attention decoders have."""
    return {
        "head": _new(
            "torch.nn.Linear", in_features=decoder.config["d_model"], out_features=decoder.config["vocab_size"]
        ),
        "decoder": _new(
            "speechbrain.decoders.seq2seq.S2STransformerGreedySearcher",
            modules=[_Ref("Transformer"), _Ref("head")],
            bos_index=BOS_INDEX,
            eos_index=EOS_INDEX,
            min_decode_ratio=0.0,
            max_decode_ratio=1.0,
        ),
        "transformer_beam_search": False,  # the encoder runs as one of the steps of `encoder`
    }


def _copy_weights(
    model: nn.ModuleList, modules: nn.ModuleDict, exit_index: int, decoder: AttentionDecoder | None
) -> None:
    """Copy all weights into the stock modules; every weight of the stock modules must be set."""
    front_end, transformer, head = model
    encoder = modules["encoder"]
    front_end.load_state_dict(encoder.frontend.blocks.state_dict())
    given = encoder.transformer.state_dict()
    if decoder is None:
        layers = [one for one in _head_layers(modules["heads"], exit_index) if one.state_dict()]
        own = [one for one in head.values() if one.state_dict()]
        for source, target in zip(layers, own, strict=True):
            target.load_state_dict(source.state_dict())
    else:
        head.load_state_dict(decoder.output.state_dict())
        given |= {f"custom_tgt_module.layers.0.{key}": value for key, value in decoder.embedding.state_dict().items()}
        given |= {f"decoder.{key}": value for key, value in decoder.transformer.state_dict().items()}
    for key, value in transformer.state_dict().items():
        if not key.startswith("positional_encoding"):  # computed, not trained, and of another length
            value.copy_(given[key])


def _head_layers(heads: nn.Module, exit_index: int) -> list[nn.Module]:
    """Return the layers of the CTC head of an exit, in order."""
    return list(heads.modules_of(exit_index)[0])


def _statistics(features: LogMel) -> dict:
    """Return what the stock ``InputNormalization`` saves."""
    return {"count": 1, "glob_mean": features.mean.clone(), "glob_std": features.std.clone()}


def _set_statistics(normalizer: nn.Module, features: LogMel) -> None:
    for name, value in _statistics(features).items():
        setattr(normalizer, name, value)


@torch.no_grad()
def check_equal(stock: dict, modules: nn.ModuleDict, exit_index: int, decoder: AttentionDecoder | None) -> None:
    """Compare the log-probabilities of a stock model and of an exit on two seconds of noise.

    Raises
    ------
    NotStock
        If they differ: the stock classes of the installed SpeechBrain compute something else.
    """
    modules.eval()
    stock["model"].eval()
    wavs = torch.randn(1, 2 * stock["sample_rate"], generator=torch.Generator().manual_seed(0)) / 10
    num_samples = torch.tensor([wavs.shape[1]])
    states, lengths = modules["encoder"](*modules["features"](wavs, num_samples))
    output = modules["heads"].head(exit_index, states[exit_index], lengths)
    encoded = stock["encoder"].eval()(wavs, torch.ones(1))
    if decoder is None:
        pair = output.log_probs, encoded
    else:
        tokens = torch.tensor([[BOS_INDEX, *range(EOS_INDEX + 1, min(EOS_INDEX + 6, stock["vocab_size"]))]])
        predicted, _ = stock["Transformer"].decode(tokens, encoded)
        pair = decoder(tokens, states[exit_index], lengths), stock["model"][2](predicted).log_softmax(-1)
    difference = float((pair[0] - pair[1]).abs().max())
    if not difference <= TOLERANCE:
        raise NotStock(
            f"the stock modules of the installed SpeechBrain give log-probabilities that differ by {difference:.2g}"
        )
