# SPDX-License-Identifier: Apache-2.0
"""The class that a user loads: speech in, text and the exit taken out."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from speechbrain.inference.interfaces import Pretrained
from speechbrain.utils.fetching import FetchConfig, LocalStrategy
from speechbrain.utils.logger import get_logger
from torch.nn.utils.rnn import pad_sequence

from speechbrain_ee.calibration.file import read_calibration
from speechbrain_ee.corpora.batching import padded_seconds
from speechbrain_ee.corpora.recordings import audio_blocks, load_audio
from speechbrain_ee.decoders.base import Decoded
from speechbrain_ee.decoders.make import make_decoder
from speechbrain_ee.files import check_not_pointer
from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.inference.long_audio import cut_at_pauses, cut_stream
from speechbrain_ee.inference.segments import UtteranceProgress, run_segments
from speechbrain_ee.inference.source import ModelSource
from speechbrain_ee.inference.timing import TIMED_S, measure_times
from speechbrain_ee.inference.transcript import Transcript, join_transcripts, make_words
from speechbrain_ee.inference.waveforms import Waveform, as_batch, as_list
from speechbrain_ee.lobes.cost import exit_macs
from speechbrain_ee.lobes.heads import ExitOutput
from speechbrain_ee.model.fingerprint import fingerprint
from speechbrain_ee.model.folder import MODEL_FILES, TOKENIZER_FILE, ModelError, load_config, load_model
from speechbrain_ee.policies import Capped, FixedExit, Policy, policy_from_dict
from speechbrain_ee.policies.confidence import confidence_map, isotonic_value
from speechbrain_ee.policies.scores import SCORES
from speechbrain_ee.text.tokenizer import Tokenizer

logger = get_logger(__name__)

MAX_CHUNK_S = 30.0  # longer recordings are cut; attention is quadratic in the length
CHUNKS_AT_ONCE = 4


class EarlyExitASR(Pretrained):
    """Transcribe with a model that has exits; each utterance stops by itself.

    Made by :meth:`from_hparams`; behaves as SpeechBrain's ``Pretrained`` classes do.

    Arguments
    ---------
    policy : Policy | None
        When to stop, see :mod:`speechbrain_ee.policies`; None means always the full encoder.
    decoder : object | None
        See :mod:`speechbrain_ee.decoders`; None is greedy, with attention where the model has decoders.
    **arguments
        See SpeechBrain's ``Pretrained``.

    Example
    -------
    >>> from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads, LogMel
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
    calibrated_policy: Policy | None = None  # the calibration's own, of which its confidences are

    def __init__(self, *, policy: Policy | None = None, decoder=None, **arguments):
        super().__init__(**arguments)
        self.policy = FixedExit() if policy is None else policy
        for exit_index in range(len(self.exit_layers)):
            self.policy.needs_head(exit_index, self.exit_layers)  # a policy of another model fails here, not in use
        self.decoder = decoder or self.make_decoder("greedy")
        self._times: dict[tuple, dict] = {}  # of what deadlines go by

    @classmethod
    def from_hparams(
        cls,
        source: str | Path,
        *,
        savedir: str | Path | None = None,
        calibration: str | Path | None = None,
        policy: Policy | None = None,
        run_opts: dict | None = None,
        local_strategy: LocalStrategy = LocalStrategy.SYMLINK,
        fetch_config: FetchConfig | None = None,
    ) -> "EarlyExitASR":
        """Load a run folder, a bundle, or a model on the HuggingFace Hub.

        The name is SpeechBrain's; what is read is ``config.json``, which runs no code, and not ``hyperparams.yaml``,
        which can.

        Arguments
        ---------
        source : str | Path
            Folder of a run or a bundle, or a name on the Hub.
        savedir : str | Path | None
            Where to put links to (or copies of) the files; None means nowhere, or the Hub's own cache.
        calibration : str | Path | None
            A ``calibration.json`` of this model; None means the one in ``source``, if there is one.
        policy : Policy | None
            When to stop; None means as the calibration says, and the full encoder where there is none.
        run_opts : dict | None
            SpeechBrain's, e.g. ``{"device": "cuda", "precision": "bf16"}``.
        local_strategy : LocalStrategy
            SpeechBrain's: link or copy into ``savedir``.
        fetch_config : FetchConfig | None
            SpeechBrain's: revision, token, overwriting.

        Returns
        -------
        EarlyExitASR
            Ready to transcribe.

        Raises
        ------
        ModelError
            If the files are missing, broken or do not belong together.
        ValueError
            If the policy is not for this model's exits, or the calibration not of this model.
        """
        files = ModelSource(source, savedir=savedir, local_strategy=local_strategy, fetch_config=fetch_config)
        paths = [files.get(name) for name in MODEL_FILES]
        config = load_config(paths[0])
        modules = load_model(config, paths[1])
        tokenizer = Tokenizer(paths[2])
        if tokenizer.vocab_size != modules["heads"].config["vocab_size"]:
            raise ModelError(
                f"{source}: {TOKENIZER_FILE} has {tokenizer.vocab_size} tokens, the exit heads have "
                f"{modules['heads'].config['vocab_size']}: put the tokenizer there that the model was trained with"
            )
        model = fingerprint(paths)
        if calibration is not None:
            check_not_pointer(calibration)
            calibration = read_calibration(calibration, model)
        else:  # where a policy is given, only confidences can be lost
            calibration = files.calibration(model, is_needed=policy is None)
        calibrated = None
        if policy is None and calibration is not None:
            policy = calibrated = policy_from_dict(calibration["policy"])
        hparams = {"tokenizer": tokenizer, "savedir": savedir}
        asr = cls(modules=modules, hparams=hparams, run_opts=run_opts, policy=policy)
        asr.fingerprint, asr.calibration, asr.calibrated_policy = model, calibration, calibrated
        return asr

    def make_decoder(self, decoding: str, **options):
        """A decoder for this model by its name, see :func:`speechbrain_ee.decoders.make.make_decoder`."""
        return make_decoder(decoding, self.mods.heads, self.hparams.tokenizer, **options)

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Where the model can stop."""
        return self.mods.encoder.exit_layers

    def load_audio(self, path: str | Path, savedir: str | Path | None = None) -> torch.Tensor:
        """Read a file as (samples,) at the model's rate: stereo is mixed down, other rates are resampled."""
        del savedir
        return load_audio(path, self.mods.features.sample_rate).to(self.device)

    def transcribe_file(self, path: str | Path, *, policy: Policy | None = None, **limits) -> Transcript:
        """Transcribe one file; what is longer than 30 s is cut at pauses and its parts are transcribed in turn.

        ``limits`` are those of :meth:`transcribe_batch`, for each part by itself. The file is read block by block:
        memory does not grow with its length.
        """
        parts, results, seconds = self.read_parts(path), [], []
        while together := list(islice(parts, CHUNKS_AT_ONCE)):
            results += self.transcribe_waveforms(together, policy=policy, **limits)
            seconds += [len(part) / self.mods.features.sample_rate for part in together]
        return results[0] if len(results) == 1 else join_transcripts(results, seconds)

    def read_parts(self, path: str | Path) -> Iterator[torch.Tensor]:
        """Read a file as :meth:`load_audio` does and cut it as :meth:`cut` does, one part after the other."""
        rate = self.mods.features.sample_rate
        parts = cut_stream(audio_blocks(path, rate), rate, max_seconds=self._max_chunk_s)
        return (part.to(self.device) for part in parts)

    def cut(self, waveform: torch.Tensor) -> list[torch.Tensor]:
        """Cut a waveform (samples,) at pauses where it is longer than 30 s, or than the encoder takes.

        Each part is recognised by itself.
        """
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
        """Transcribe waveforms (samples,) of any lengths as one batch; see :meth:`transcribe_batch`.

        Tensors or NumPy arrays, of floating point from -1 to 1, int16 or int32.
        """
        waveforms = [waveform.to(self.device) for waveform in as_list(waveforms)]
        num_samples = torch.tensor([len(waveform) for waveform in waveforms], device=self.device)
        return self._transcribe(pad_sequence(waveforms, batch_first=True), num_samples, policy, **limits)

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
        """Transcribe a batch; an utterance that stops leaves it, and the rest goes on in a smaller batch.

        Arguments
        ---------
        wavs : torch.Tensor | np.ndarray
            Padded waveforms, (batch, samples): floating point from -1 to 1, int16 or int32.
        wav_lens : torch.Tensor | np.ndarray | sequence of float
            Relative lengths in (0, 1], (batch,).
        policy : Policy | None
            When to stop; None means the policy that the model was loaded with.
        max_layer : int | None
            No utterance goes deeper.
        budget : float | None
            MACs per second of audio that an utterance may spend on encoder and heads; the first exit is run whatever
            it costs. What an attention decoder will cost is not known before.
        deadline_ms : float | None
            Milliseconds from this call on; the next segment is run only if it and the text will be done by then,
            judging by :meth:`time_exits`. Call that once after loading: otherwise the first call does it, says so, and
            its milliseconds count from then on. An attention decoder's time comes on top.

        Returns
        -------
        list[Transcript]
            One per utterance, in order.

        Raises
        ------
        ValueError
            If the shapes or types are wrong, the lengths not relative, or a limit makes no sense.
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
            runs = self._run(wavs, num_samples, policy, started)
            self._decode(runs)
        return [self._transcript(run, policy) for run in runs]

    def _run(
        self, wavs: torch.Tensor, num_samples: torch.Tensor, policy: Policy, started: float
    ) -> list[UtteranceProgress]:
        """Run segments until every utterance has stopped; no text but where a score needs it."""
        feats, num_frames = self.mods.features(wavs, num_samples)
        seconds = [samples / self.mods.features.sample_rate for samples in num_samples.tolist()]
        padded = padded_seconds(seconds, self.mods.features.min_seconds)
        facts = [
            {"duration": own, "padded_duration": long, "call_duration": sum(padded)}
            for own, long in zip(seconds, padded, strict=True)
        ]
        runs = [
            UtteranceProgress(frames, known, self._macs(frames), started, self._clock)
            for frames, known in zip(num_frames.tolist(), facts, strict=True)
        ]
        score = partial(self._scores, policy)
        run_segments(self.mods.encoder, self.mods.heads, feats, num_frames, runs=runs, policy=policy, score=score)
        return runs

    def _decode(self, runs: list[UtteranceProgress]) -> None:
        """Decode what has no text yet, what stopped at the same exit together."""
        by_exit: dict[int, list[UtteranceProgress]] = {}
        for run in runs:
            if run.decoded[-1] is None:
                by_exit.setdefault(run.exit_index, []).append(run)
        for together in by_exit.values():
            texts = self.decoder.decode(ExitOutput.join([run.output for run in together]))
            for run, decoded in zip(together, texts, strict=True):
                run.decoded[-1] = decoded

    def forward(self, wavs: torch.Tensor, wav_lens: torch.Tensor) -> list[Transcript]:
        """SpeechBrain's convention: the whole system on a batch, see :meth:`transcribe_batch`."""
        return self.transcribe_batch(wavs, wav_lens)

    def _limited(self, policy: Policy, max_layer, budget, deadline_ms) -> Policy:
        limits = {"max_layer": max_layer, "macs_per_s": budget, "deadline_ms": deadline_ms}
        if all(limit is None for limit in limits.values()):
            return policy
        return Capped(policy, **limits, **({} if deadline_ms is None else self._times_of(policy)))

    def _clock(self) -> float:
        """Seconds, when the device has done what it was given."""
        if self.device_type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _times_of(self, policy: Policy) -> dict:
        """What a deadline goes by, measured once for each decoder and set of scores."""
        key = (self.decoder.name, tuple(policy.score_names))
        if key not in self._times:
            begin = time.perf_counter()
            self.time_exits(policy)
            logger.warning(
                "the first call with a deadline measured this machine, which took %.1f s on top: call time_exits() "
                "after loading",
                time.perf_counter() - begin,
            )
        return self._times[key]

    @torch.inference_mode()
    def time_exits(self, policy: Policy | None = None) -> dict:
        """Measure what a deadline goes by: how long each exit, and its text, takes on this machine.

        Times are a line over the length of the audio, through those of 2 and of 10 seconds of noise; where features are
        padded to more, through those of one and of two utterances so long. Call it once after
        loading, and again where the decoder has changed or something else has come to share the machine.

        Arguments
        ---------
        policy : Policy | None
            Whose scores are computed on the way; None means the policy that the model was loaded with.

        Returns
        -------
        dict
            ``seconds_to_exit`` and ``seconds_to_text`` of :class:`~speechbrain_ee.policies.Capped`.
        """
        names = tuple((self.policy if policy is None else policy).score_names)
        short, long = (
            min(seconds, share * self._max_chunk_s) for seconds, share in zip(TIMED_S, (0.2, 1.0), strict=True)
        )
        short = max(short, self.mods.features.min_seconds)
        with self.inference_ctx:
            times = measure_times(
                lambda wavs, num_samples, policy: self._run(
                    wavs.to(self.device), num_samples.to(self.device), policy, self._clock()
                ),
                getattr(self.decoder, "ctc", self.decoder).decode,  # an attention decoder's time depends on the text
                batches=[(1, short), (1, long) if long > 2 * short else (2, short)],
                sample_rate=self.mods.features.sample_rate,
                first_layer=self.exit_layers[0],
                score_names=names,
                clock=self._clock,
            )
        self._times[self.decoder.name, names] = times
        return times

    def _scores(
        self, policy: Policy, output: ExitOutput, previous: ExitOutput | None
    ) -> list[tuple[dict[str, float], Decoded | None]]:
        """Compute the scores that the policy asks for, and no others; a text where one of them needs it."""
        names = [name for name in policy.score_names if not SCORES[name].from_decoder]
        scores = output_scores(output, previous, names=names)
        decoded_names = [name for name in policy.score_names if SCORES[name].from_decoder]
        if not decoded_names:
            return [(own, None) for own in scores]
        return [
            (own | {name: self._decoded_score(name, decoded.scores) for name in decoded_names}, decoded)
            for own, decoded in zip(scores, self.decoder.decode(output), strict=True)
        ]

    def _decoded_score(self, name: str, scores: dict[str, float]) -> float:
        if name not in scores:
            raise ValueError(
                f"the exit score {name!r} comes from {SCORES[name].from_decoder}, and this is {self.decoder.name}: set "
                "asr.decoder to one that gives it, see speechbrain_ee.decoders"
            )
        return scores[name]

    def _macs(self, num_frames: int, heads_run: int | None = None) -> list[int]:
        return exit_macs(self.mods.encoder, self.mods.heads, num_frames, heads_run=heads_run)

    def _transcript(self, run: UtteranceProgress, policy) -> Transcript:
        layer = self.exit_layers[run.exit_index]
        words = make_words(
            run.decoded[-1].spans,
            seconds_per_frame=max(run.facts["duration"], self.mods.features.min_seconds) / int(run.output.lengths),
            duration=run.facts["duration"],
            calibration=self._confidence_map("words", layer, policy),
        )
        return Transcript(
            text=run.decoded[-1].text,
            exit_layer=layer,
            policy_value=policy.value(run.look(run.exit_index, self.exit_layers)),
            macs=self._macs(run.num_frames, heads_run=len(run.scores))[run.exit_index]
            + sum(one.macs for one in run.decoded if one is not None),
            words=words,
            expected_wer=self._expected_wer(run.output.log_probs, layer, policy),
        )

    def _expected_wer(self, log_probs: torch.Tensor, layer: int, policy: Policy) -> float | None:
        knots = self._confidence_map("wer", layer, policy)
        if knots is None:
            return None
        return isotonic_value(knots, float(log_probs.float().max(dim=-1).values.exp().mean()))  # the score `confidence`

    def _confidence_map(self, kind: str, layer: int, policy: Policy) -> dict | None:
        confidence = (self.calibration or {}).get("confidence", {})
        return confidence_map(confidence, kind, layer, is_calibrated=policy is self.calibrated_policy)
