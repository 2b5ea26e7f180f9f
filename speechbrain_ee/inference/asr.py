# SPDX-License-Identifier: Apache-2.0
"""The class that a user loads: transcribes speech and stops each utterance at an exit of the encoder."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.fetching import FetchConfig, LocalStrategy
from speechbrain.utils.logger import get_logger

from speechbrain_ee.corpora.batching import padded_seconds
from speechbrain_ee.corpora.recordings import audio_blocks, load_audio
from speechbrain_ee.decoders.base import Decoder
from speechbrain_ee.decoders.make import make_decoder
from speechbrain_ee.inference.load import load_from_source
from speechbrain_ee.inference.long_audio import cut_at_pauses, cut_stream
from speechbrain_ee.inference.segments import Stopped, UtteranceProgress, run_segments
from speechbrain_ee.inference.source import ModelSource
from speechbrain_ee.inference.timing import measure_times, timed_batches
from speechbrain_ee.inference.transcript import Transcript, join_transcripts, make_transcripts
from speechbrain_ee.inference.waveforms import Waveform, as_batch, as_list
from speechbrain_ee.lobes.cost import exit_macs
from speechbrain_ee.lobes.padding import pad_batch
from speechbrain_ee.policies import Capped, FixedExit, Policy, policy_from_dict

logger = get_logger(__name__)

MAX_CHUNK_S = 30.0  # longer recordings are cut, because the cost of attention is quadratic in the length
CHUNKS_AT_ONCE = 4


class EarlyExitASR(Pretrained):
    """Transcribes speech with an early-exit model; each utterance stops at its own exit.

    Load a model with :meth:`from_hparams`. The class is one of SpeechBrain's ``Pretrained`` interfaces.

    Arguments
    ---------
    policy : Policy | None
        Decides when an utterance stops, see :mod:`speechbrain_ee.policies`; None means always the full encoder.
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

    fingerprint: str | None = None
    calibration: dict | None = None
    calibrated_policy: Policy | None = None  # the policy for which the confidences of the calibration were fitted

    def __init__(self, *, policy: Policy | None = None, decoder: Decoder | None = None, **arguments):
        super().__init__(**arguments)
        self.policy = FixedExit() if policy is None else policy
        for exit_index in range(len(self.exit_layers)):  # fails here, not later, if the policy has other exits
            self.policy.needs_head(exit_index, self.exit_layers)
        self.decoder = decoder or self.make_decoder("greedy")
        self._times: dict[tuple, dict] = {}  # measured for deadlines, by decoder and scores

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
            SpeechBrain's options: revision, token, overwriting.

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
        files = ModelSource(source, savedir=savedir, local_strategy=local_strategy, fetch_config=fetch_config)
        model = load_from_source(files, calibration_file=calibration_file, needs_calibration=policy is None)
        calibrated = None
        if policy is None and model.calibration is not None:
            policy = calibrated = policy_from_dict(model.calibration["policy"])
        hparams = {"tokenizer": model.tokenizer, "savedir": savedir}
        asr = cls(modules=model.modules, hparams=hparams, run_opts=run_opts, policy=policy)
        asr.fingerprint, asr.calibration, asr.calibrated_policy = model.fingerprint, model.calibration, calibrated
        return asr

    def make_decoder(self, decoding: str, **options) -> Decoder:
        """Make a decoder for this model from its name, see :func:`speechbrain_ee.decoders.make.make_decoder`."""
        return make_decoder(decoding, self.mods.heads, self.hparams.tokenizer, **options)

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Encoder layers at which the model can stop."""
        return self.mods.encoder.exit_layers

    def load_audio(self, path: str | Path, savedir: str | Path | None = None) -> torch.Tensor:
        """Read a file as (samples,) at the sample rate of the model: channels are mixed, other rates are resampled."""
        del savedir
        return load_audio(path, self.mods.features.sample_rate).to(self.device)

    def transcribe_file(self, path: str | Path, *, policy: Policy | None = None, **limits) -> Transcript:
        """Transcribe a file; a recording of more than 30 s is cut at pauses into parts.

        ``limits`` are those of :meth:`transcribe_batch` and apply to each part. The file is read block by block, so
        memory does not grow with its length.
        """
        parts, results, seconds = self.read_parts(path), [], []
        while together := list(islice(parts, CHUNKS_AT_ONCE)):
            results += self.transcribe_waveforms(together, policy=policy, **limits)
            seconds += [len(part) / self.mods.features.sample_rate for part in together]
        return results[0] if len(results) == 1 else join_transcripts(results, seconds)

    def read_parts(self, path: str | Path) -> Iterator[torch.Tensor]:
        """Read a file as :meth:`load_audio` does, cut it as :meth:`cut` does, and yield the parts in order."""
        rate = self.mods.features.sample_rate
        parts = cut_stream(audio_blocks(path, rate), rate, max_seconds=self._max_chunk_s)
        return (part.to(self.device) for part in parts)

    def cut(self, waveform: torch.Tensor) -> list[torch.Tensor]:
        """Cut a waveform (samples,) at pauses into parts of at most 30 s, or less if the encoder has a lower limit."""
        return cut_at_pauses(waveform, self.mods.features.sample_rate, max_seconds=self._max_chunk_s)

    @property
    def _max_chunk_s(self) -> float:
        limit = self.mods.encoder.max_output_frames
        num_samples = round(MAX_CHUNK_S * self.mods.features.sample_rate)
        frames = self.mods.encoder.num_output_frames(self.mods.features.num_frames(num_samples))
        return MAX_CHUNK_S if limit is None or frames <= limit else MAX_CHUNK_S * (limit - 1) / frames

    def transcribe_waveforms(
        self, waveforms: Sequence[Waveform], *, policy: Policy | None = None, **limits
    ) -> list[Transcript]:
        """Transcribe waveforms (samples,) of any lengths as one batch, see :meth:`transcribe_batch`.

        Waveforms are tensors or NumPy arrays: floating point from -1 to 1, int16 or int32.
        """
        waveforms = [waveform.to(self.device) for waveform in as_list(waveforms)]
        return self._transcribe(*pad_batch(waveforms), policy, **limits)

    def transcribe_batch(
        self,
        wavs: Waveform,
        wav_lens: Waveform | Sequence[float],
        *,
        policy: Policy | None = None,
        max_layer: int | None = None,
        budget: float | None = None,
        deadline_ms: float | None = None,
    ) -> list[Transcript]:
        """Transcribe a batch; an utterance that stops leaves the batch, and the others continue in a smaller one.

        Arguments
        ---------
        wavs : torch.Tensor | np.ndarray
            Padded waveforms, (batch, samples): floating point from -1 to 1, int16 or int32.
        wav_lens : torch.Tensor | np.ndarray | sequence of float
            Relative lengths in (0, 1], (batch,).
        policy : Policy | None
            Decides when an utterance stops; None means the policy that the model was loaded with.
        max_layer : int | None
            Deepest layer that any utterance may reach.
        budget : float | None
            MACs per second of audio that an utterance may use in encoder and heads; the first exit is run at any cost.
            The cost of an attention decoder is unknown in advance and not included.
        deadline_ms : float | None
            Milliseconds from the start of this call. The next segment is run only if it and the text will be ready in
            time, according to :meth:`time_exits`. Call that method once after loading; otherwise the first call with
            a deadline does, logs a warning, and its time counts from then on. The time of an attention decoder is not
            included.

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
        return self._transcribe(wavs, num_samples, policy, **limits)

    @torch.inference_mode()
    def _transcribe(
        self, wavs: torch.Tensor, num_samples: torch.Tensor, policy, max_layer=None, budget=None, deadline_ms=None
    ) -> list[Transcript]:
        policy = self._limited(self.policy if policy is None else policy, max_layer, budget, deadline_ms)
        started = self._clock()
        wavs, num_samples = wavs.to(self.device), num_samples.to(self.device)
        with self.inference_ctx:
            groups = self._run(wavs, num_samples, policy, started)
            for stopped in groups:
                stopped.decode(self.decoder)
        options = {"exit_layers": self.exit_layers, "cost": self._macs, "calibration": self.calibration}
        options["is_calibrated"] = policy is self.calibrated_policy
        transcripts = {}
        for stopped in groups:
            transcripts |= make_transcripts(stopped, policy, **options)
        return [transcripts[position] for position in range(len(wavs))]

    def _run(self, wavs: torch.Tensor, num_samples: torch.Tensor, policy: Policy, started: float) -> list[Stopped]:
        """Run segments until every utterance has stopped; decode only if a score needs a text."""
        feats, num_frames = self.mods.features(wavs, num_samples)
        seconds = [samples / self.mods.features.sample_rate for samples in num_samples.tolist()]
        padded = padded_seconds(seconds, self.mods.features.min_seconds)
        utterances = [
            UtteranceProgress(
                position=position,
                num_frames=frames,
                facts={"duration": own, "padded_duration": long, "call_duration": sum(padded)},
                macs=self._macs(frames),
                started=started,
                clock=self._clock,
            )
            for position, (frames, own, long) in enumerate(zip(num_frames.tolist(), seconds, padded, strict=True))
        ]
        options = {"utterances": utterances, "policy": policy, "decoder": self.decoder}
        return run_segments(self.mods.encoder, self.mods.heads, feats, num_frames, **options)

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> list[Transcript]:
        """Transcribe a batch, see :meth:`transcribe_batch`; SpeechBrain's convention."""
        return self.transcribe_batch(wavs, wav_lens)

    def _limited(self, policy: Policy, max_layer, budget, deadline_ms) -> Policy:
        limits = {"max_layer": max_layer, "macs_per_s": budget, "deadline_ms": deadline_ms}
        if all(limit is None for limit in limits.values()):
            return policy
        return Capped(policy, **limits, **({} if deadline_ms is None else self._times_of(policy)))

    def _clock(self) -> float:
        """Return seconds, after the device has finished its work."""
        if self.device_type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _times_of(self, policy: Policy) -> dict:
        """Return the times for deadlines, measured once for each decoder and set of scores."""
        key = (self.decoder.name, tuple(policy.score_names))
        if key not in self._times:
            begin = time.perf_counter()
            self.time_exits(policy)
            logger.warning(
                "the first call with a deadline measured this machine, which took %.1f s: call time_exits() after "
                "loading",
                time.perf_counter() - begin,
            )
        return self._times[key]

    @torch.inference_mode()
    def time_exits(self, policy: Policy | None = None) -> dict:
        """Measure how long each exit and its text take on this machine; deadlines need these times.

        The times are fitted as lines over the length of the audio, to noise of 2 and 10 seconds; if features are padded
        to more, to one and two utterances of the padded length. Call it once after loading, and again if the decoder
        changes or other programs start to share the machine.

        Arguments
        ---------
        policy : Policy | None
            Its scores are computed at every exit; None means the policy that the model was loaded with.

        Returns
        -------
        dict
            ``seconds_to_exit`` and ``seconds_to_text`` of :class:`~speechbrain_ee.policies.Capped`.
        """
        names = tuple((self.policy if policy is None else policy).score_names)
        with self.inference_ctx:
            times = measure_times(
                lambda wavs, num_samples, policy: self._run(
                    wavs.to(self.device), num_samples.to(self.device), policy, self._clock()
                ),
                getattr(self.decoder, "ctc", self.decoder).decode,  # an attention decoder's time depends on the text
                batches=timed_batches(self._max_chunk_s, self.mods.features.min_seconds),
                sample_rate=self.mods.features.sample_rate,
                first_layer=self.exit_layers[0],
                score_names=names,
                clock=self._clock,
            )
        self._times[self.decoder.name, names] = times
        return times

    def _macs(self, num_frames: int, heads_run: int | None = None) -> list[int]:
        return exit_macs(self.mods.encoder, self.mods.heads, num_frames, heads_run=heads_run)
