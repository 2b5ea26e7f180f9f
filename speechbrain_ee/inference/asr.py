# SPDX-License-Identifier: Apache-2.0
"""The class that a user loads: transcribes speech and stops each utterance at an exit of the encoder."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.fetching import FetchConfig, LocalStrategy

from ee_runtime import transcriber
from ee_runtime.audio import Excerpt
from ee_runtime.decoders.base import Decoder
from ee_runtime.long_audio import cut_at_pauses
from ee_runtime.policies import FixedExit, Policy, policy_from_dict
from ee_runtime.transcript import Transcript
from speechbrain_ee.corpora.recordings import load_audio
from speechbrain_ee.decoders.make import make_decoder
from speechbrain_ee.inference.encoder_run import TorchRun
from speechbrain_ee.inference.load import load_from_source
from speechbrain_ee.inference.source import ModelSource
from speechbrain_ee.inference.waveforms import Waveform, as_batch, as_list
from speechbrain_ee.lobes.cost import exit_macs, exit_parameters
from speechbrain_ee.lobes.padding import pad_batch
from speechbrain_ee.text.tokenizer import Tokenizer


class EarlyExitASR(transcriber.Transcriber, Pretrained):
    """Transcribes speech with an early-exit model; each utterance stops at its own exit.

    Load a model with :meth:`from_hparams`. The class is one of SpeechBrain's ``Pretrained`` interfaces.

    Arguments
    ---------
    policy : Policy | None
        Decides when an utterance stops, see :mod:`ee_runtime.policies`; None means always the full encoder.
    decoder : Decoder | None
        Makes text from an exit's output, see :mod:`speechbrain_ee.decoders`; None means greedy decoding, with attention
        if the model has attention decoders.
    **arguments
        Arguments of SpeechBrain's ``Pretrained``.

    Example
    -------
    >>> from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads, LogMel
    >>> from speechbrain_ee.text.tokenizer import Tokenizer
    >>> path = getfixture("tmp_path") / "tokenizer.model"
    >>> tokenizer = Tokenizer.train(["a b", "b a"], path=path, model_type="char", vocab_size=6)
    >>> size = tokenizer.vocab_size
    >>> modules = {
    ...     "features": LogMel(n_mels=20),
    ...     "encoder": ConformerExitEncoder(n_mels=20, num_layers=2, exit_layers=[1, 2], d_model=8, nhead=2, d_ffn=8),
    ...     "heads": CTCHeads(num_exits=2, d_model=8, vocab_size=size),
    ... }
    >>> asr = EarlyExitASR(modules=modules, hparams={"tokenizer": tokenizer}, policy=FixedExit(1))
    >>> [result.exit_layer for result in asr.transcribe_batch(torch.zeros(2, 8000), torch.tensor([1.0, 0.5]))]
    [1, 1]
    """

    MODULES_NEEDED = ["features", "encoder", "heads"]
    HPARAMS_NEEDED = ["tokenizer"]

    def __init__(self, *, policy: Policy | None = None, decoder: Decoder | None = None, **arguments):
        super().__init__(**arguments)
        self.policy = FixedExit() if policy is None else policy
        self.check_policy(self.policy)
        self.decoder = decoder or self.make_decoder("greedy")

    @classmethod
    def from_hparams(
        cls,
        source: str | Path,
        *,
        savedir: str | Path | None = None,
        calibration_file: str | Path | None = None,
        policy: Policy | None = None,
        run_opts: dict | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig | None = None,
        revision: str | None = None,
    ) -> "EarlyExitASR":
        """Load a run folder, a model folder, or a model on the HuggingFace Hub.

        The method has SpeechBrain's name, but it reads ``config.json``, which runs no code, and not
        ``hyperparams.yaml``, which can run code.

        Arguments
        ---------
        source : str | Path
            Run folder, model folder, or name on the Hub.
        savedir : str | Path | None
            Folder for links to (or copies of) the files; None means none, or the cache of the Hub.
        calibration_file : str | Path | None
            A ``calibration.json`` of this model; None means the one in ``source``, if there is one.
        policy : Policy | None
            Decides when an utterance stops; None means the policy of the calibration, or the full encoder without one.
        run_opts : dict | None
            SpeechBrain's run options, e.g. ``{"device": "cuda", "precision": "bf16"}``.
        local_strategy : LocalStrategy
            SpeechBrain's option: link or copy into ``savedir``.
        fetch_config : FetchConfig | None
            SpeechBrain's options: revision, token, overwriting. The token of a logged-in user is always sent.
        revision : str | None
            Branch, tag or commit on the Hub; None means that of ``fetch_config``, or the newest commit.

        Returns
        -------
        EarlyExitASR
            The model, ready to transcribe.

        Raises
        ------
        ModelError
            If files are missing or broken, or do not belong together.
        ValueError
            If the policy does not fit the exits of the model, or the calibration belongs to another model.
        """
        files = ModelSource(
            source, savedir=savedir, local_strategy=local_strategy, fetch_config=fetch_config, revision=revision
        )
        model = load_from_source(files, calibration_file=calibration_file, needs_calibration=policy is None)
        calibrated = None
        if policy is None and model.calibration is not None:
            policy = calibrated = policy_from_dict(model.calibration["policy"])
        hparams = {"tokenizer": model.tokenizer, "savedir": savedir}
        asr = cls(modules=model.modules, hparams=hparams, run_opts=run_opts, policy=policy)
        asr.fingerprint, asr.calibration, asr.calibrated_policy = model.fingerprint, model.calibration, calibrated
        asr.error_unit = model.error_unit
        return asr

    def make_decoder(self, decoding: str, **options) -> Decoder:
        """Make a decoder for this model from its name, see :func:`speechbrain_ee.decoders.make.make_decoder`."""
        return make_decoder(decoding, self.mods.heads, self.hparams.tokenizer, **options)

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Encoder layers at which the model can stop."""
        return self.mods.encoder.exit_layers

    def load_audio(
        self, path: str | Path, savedir: str | Path | None = None, *, excerpt: Excerpt | None = None
    ) -> torch.Tensor:
        """Read a file as (samples,) at the sample rate of the model: channels are mixed, other rates are resampled."""
        del savedir
        return load_audio(path, self.sample_rate, excerpt=excerpt).to(self.device)

    def cut(self, waveform: torch.Tensor) -> list[torch.Tensor]:
        """Cut a waveform (samples,) at pauses into parts of at most 30 s, or less if the encoder has a lower limit."""
        parts = cut_at_pauses(waveform.cpu().numpy(), self.sample_rate, max_seconds=self.max_part_s)
        return [torch.from_numpy(part).to(self.device) for part in parts]

    @property
    def sample_rate(self) -> int:
        """See :attr:`Transcriber.sample_rate`."""
        return self.mods.features.sample_rate

    @property
    def min_seconds(self) -> float:
        """See :attr:`Transcriber.min_seconds`."""
        return self.mods.features.min_seconds

    @property
    def max_part_s(self) -> float:
        """See :attr:`Transcriber.max_part_s`."""
        features, encoder = self.mods.features, self.mods.encoder
        frames = encoder.num_output_frames(features.num_frames(round(transcriber.MAX_CHUNK_S * self.sample_rate)))
        return transcriber.longest_part_s(frames, encoder.max_output_frames)

    @property
    def tokenizer(self) -> Tokenizer:
        """See :attr:`Transcriber.tokenizer`."""
        return self.hparams.tokenizer

    def exit_parameters(self) -> list[int]:
        """See :meth:`Transcriber.exit_parameters`."""
        return exit_parameters(self.mods.encoder, self.mods.heads)

    @contextmanager
    def on_one_thread(self) -> Iterator["EarlyExitASR"]:
        """See :meth:`Transcriber.on_one_thread`."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield self
        finally:
            torch.set_num_threads(threads)

    def exit_macs(self, num_frames: int, heads_run: int | None = None) -> list[int]:
        """See :meth:`Transcriber.exit_macs`."""
        return exit_macs(self.mods.encoder, self.mods.heads, num_frames, heads_run=heads_run)

    def check_waveforms(self, waveforms: Sequence[Waveform]) -> list[torch.Tensor]:
        """See :meth:`Transcriber.check_waveforms`: tensors or NumPy arrays -> float32 tensors on the device."""
        return [waveform.to(self.device) for waveform in as_list(waveforms)]

    def make_batch(self, waveforms: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`Transcriber.make_batch`: (batch, samples) and integer lengths (batch,)."""
        return pad_batch(waveforms)

    def start(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[TorchRun, list[int]]:
        """See :meth:`Transcriber.start`."""
        feats, num_frames = self.mods.features(*(one.to(self.device) for one in batch))
        return TorchRun(self.mods.encoder, self.mods.heads, feats, num_frames), num_frames.tolist()

    def clock(self) -> float:
        """See :meth:`Transcriber.clock`."""
        if self.device_type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def inference(self) -> Iterator[None]:
        """See :meth:`Transcriber.inference`: no gradients, and the model's precision."""
        with torch.inference_mode(), self.inference_ctx:
            yield

    def transcribe(self, *arguments, **limits) -> list[Transcript]:
        """See :meth:`Transcriber.transcribe`."""
        with self.inference():
            return super().transcribe(*arguments, **limits)

    def time_exits(self, policy: Policy | None = None) -> dict:
        """See :meth:`Transcriber.time_exits`."""
        with self.inference():
            return super().time_exits(policy)

    def transcribe_batch(
        self,
        wavs: Waveform,
        wav_lens: Waveform | Sequence[float],
        *,
        policy: Policy | None = None,
        max_layer: int | Callable[[], int | None] | None = None,
        budget: float | Callable[[], float | None] | None = None,
        deadline_ms: float | Callable[[], float | None] | None = None,
    ) -> list[Transcript]:
        """Transcribe a padded batch of SpeechBrain, see :meth:`transcribe_waveforms` for policy and limits.

        Arguments
        ---------
        wavs : torch.Tensor | np.ndarray
            Padded waveforms, (batch, samples): floating point from -1 to 1, int16 or int32.
        wav_lens : torch.Tensor | np.ndarray | sequence of float
            Relative lengths in (0, 1], (batch,).
        policy, max_layer, budget, deadline_ms
            See :meth:`transcribe_waveforms`.

        Returns
        -------
        list[Transcript]
            One per utterance, in order.

        Raises
        ------
        ValueError
            If shapes or types are wrong, lengths are not relative, or a limit is out of range.
        """
        wavs, num_samples = as_batch(wavs, wav_lens)
        limits = {"max_layer": max_layer, "budget": budget, "deadline_ms": deadline_ms}
        seconds = [samples / self.sample_rate for samples in num_samples.tolist()]
        return self.transcribe((wavs, num_samples), seconds, policy, **limits)

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> list[Transcript]:
        """Transcribe a batch, see :meth:`transcribe_batch`; SpeechBrain's convention."""
        return self.transcribe_batch(wavs, wav_lens)
