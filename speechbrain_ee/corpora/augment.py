# SPDX-License-Identifier: Apache-2.0
"""Waveform augmentation with an explicit random generator.

SpeechBrain's augmenters use the global generator, so their effect on an utterance depends on the batches before it.
With an explicit generator, resumed training equals uninterrupted training.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torchaudio.functional import add_noise
from torchaudio.transforms import Resample

from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.corpora.recordings import load_audio

Augmentation = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

# Power falls with frequency as f ** -exponent: 0, 3 and 6 dB per octave.
NOISE_EXPONENTS = {"white": 0.0, "pink": 1.0, "brown": 2.0}


class SpeedPerturb:
    """Play an utterance at a speed drawn from a list; tempo and pitch change together.

    Reference: Ko et al., "Audio augmentation for speech recognition", Interspeech 2015.

    Arguments
    ---------
    speeds : Sequence[float]
        Equally likely speeds, each > 0; 1.1 is faster and shorter.

    Raises
    ------
    ValueError
        If there are no speeds, or one is not above 0.

    Example
    -------
    >>> faster = SpeedPerturb(speeds=(1.25,))
    >>> faster(torch.zeros(16000), torch.Generator()).shape
    torch.Size([12800])
    """

    def __init__(self, speeds: Sequence[float] = (0.9, 1.0, 1.1)):
        if not speeds or min(speeds) <= 0:
            raise ValueError(f"speeds is {tuple(speeds)}: give at least one number, all above 0")
        self.speeds = tuple(speeds)
        self._resamplers = [self._resampler(speed) for speed in self.speeds]

    @staticmethod
    def _resampler(speed: float) -> Resample:
        # The kernel's size grows with numerator and denominator: keep them small.
        ratio = Fraction(speed).limit_denominator(100)
        return Resample(orig_freq=ratio.numerator, new_freq=ratio.denominator)

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Waveform (samples,) -> (ceil(samples / speed),)."""
        choice = _choose(len(self.speeds), generator)
        return self._resamplers[choice](waveform)


class AddNoise:
    """Add noise at a signal-to-noise ratio drawn uniformly in dB.

    Arguments
    ---------
    snr_db : tuple[float, float]
        Lowest and highest ratio of the mean powers of utterance and noise, in dB.
    probability : float
        Probability that noise is added, in [0, 1].
    colours : Sequence[str]
        Equally likely kinds of generated noise: white, pink, brown.
    noise_manifest : str | Path | None
        A manifest of noise files to use instead (their text may be empty); None generates noise.
    sample_rate : int
        Sample rate of the waveforms in Hz; noise files are resampled to it.
    data_root : str | Path | None
        Folder of relative audio paths; None means the manifest's folder.

    Raises
    ------
    ValueError
        If the SNRs are in the wrong order, the probability is outside [0, 1], or a colour is unknown.

    Example
    -------
    >>> noisy = AddNoise(snr_db=(10, 10))
    >>> waveform = torch.ones(16000)
    >>> added = noisy(waveform, torch.Generator()) - waveform
    >>> print(f"{-10 * added.square().mean().log10():.2f} dB")
    10.00 dB
    """

    def __init__(
        self,
        snr_db: tuple[float, float] = (5.0, 25.0),
        probability: float = 1.0,
        colours: Sequence[str] = ("white", "pink", "brown"),
        noise_manifest: str | Path | None = None,
        sample_rate: int = 16000,
        data_root: str | Path | None = None,
    ):
        _check_range("snr_db", snr_db)
        _check_probability(probability)
        unknown = [colour for colour in colours if colour not in NOISE_EXPONENTS]
        if unknown or not colours:
            raise ValueError(f"colours is {tuple(colours)}: choose from {', '.join(NOISE_EXPONENTS)}")
        self.snr_db = tuple(snr_db)
        self.probability = probability
        self.colours = tuple(colours)
        self.sample_rate = sample_rate
        noises = [] if noise_manifest is None else read_manifest(noise_manifest, data_root=data_root)
        self._noise_files = [(noise.audio_filepath, noise.excerpt) for noise in noises]

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Waveform (samples,) -> (samples,)."""
        if _uniform(0.0, 1.0, generator) >= self.probability:
            return waveform
        snr_db = _uniform(*self.snr_db, generator)
        noise = self._noise(len(waveform), generator)
        if noise.square().sum() == 0:
            return waveform  # silent noise has no SNR
        return add_noise(waveform, noise, torch.tensor(snr_db))

    def _noise(self, num_samples: int, generator: torch.Generator) -> torch.Tensor:
        if self._noise_files:
            path, part = self._noise_files[_choose(len(self._noise_files), generator)]
            return _excerpt(load_audio(path, self.sample_rate, excerpt=part), num_samples, generator)
        colour = self.colours[_choose(len(self.colours), generator)]
        return coloured_noise(num_samples, NOISE_EXPONENTS[colour], generator)


class RandomGain:
    """Make an utterance louder or quieter.

    Arguments
    ---------
    gain_db : tuple[float, float]
        Lowest and highest gain in dB, drawn uniformly.
    probability : float
        Probability that an utterance is changed, in [0, 1].

    Raises
    ------
    ValueError
        If the gains are in the wrong order or the probability is outside [0, 1].

    Example
    -------
    >>> RandomGain(gain_db=(20, 20))(torch.tensor([0.01, -0.02]), torch.Generator())
    tensor([ 0.1000, -0.2000])
    """

    def __init__(self, gain_db: tuple[float, float] = (-10.0, 6.0), probability: float = 1.0):
        _check_range("gain_db", gain_db)
        _check_probability(probability)
        self.gain_db = tuple(gain_db)
        self.probability = probability

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Waveform (samples,) -> (samples,)."""
        if _uniform(0.0, 1.0, generator) >= self.probability:
            return waveform
        return waveform * 10 ** (_uniform(*self.gain_db, generator) / 20)


class Compose:
    """Apply augmentations one after the other.

    Arguments
    ---------
    augmentations : Sequence[Augmentation]
        Each is called with the waveform and the same generator; may be empty.

    Example
    -------
    >>> both = Compose([RandomGain(gain_db=(20, 20)), SpeedPerturb(speeds=(2.0,))])
    >>> both(torch.zeros(16000), torch.Generator()).shape
    torch.Size([8000])
    """

    def __init__(self, augmentations: Sequence[Augmentation]):
        self.augmentations = list(augmentations)

    def __call__(self, waveform: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Waveform (samples,) -> (new samples,)."""
        for augmentation in self.augmentations:
            waveform = augmentation(waveform, generator)
        return waveform


def coloured_noise(num_samples: int, exponent: float, generator: torch.Generator) -> torch.Tensor:
    """Generate Gaussian noise whose power falls with frequency as ``f ** -exponent``.

    Arguments
    ---------
    num_samples : int
        Length of the noise.
    exponent : float
        0 is white, 1 pink, 2 brown.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    torch.Tensor
        (num_samples,), of arbitrary level.

    Example
    -------
    >>> coloured_noise(8, 1.0, torch.Generator()).shape
    torch.Size([8])
    """
    white = torch.randn(num_samples, generator=generator)
    if exponent == 0:
        return white
    spectrum = torch.fft.rfft(white)
    bins = torch.arange(len(spectrum), dtype=white.dtype)
    weights = bins.clamp(min=1.0) ** (-exponent / 2)
    weights[0] = 0.0  # no DC offset
    return torch.fft.irfft(spectrum * weights, n=num_samples)


def _excerpt(noise: torch.Tensor, num_samples: int, generator: torch.Generator) -> torch.Tensor:
    """Cut an excerpt at a random position; short noise is repeated."""
    start = _choose(len(noise), generator)
    return noise.roll(-start).repeat(-(-num_samples // len(noise)))[:num_samples]


def _choose(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _check_range(name: str, values: Sequence[float]) -> None:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"{name} is {tuple(values)}: give the lowest and the highest value in dB")


def _check_probability(probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}: it must be between 0 and 1")
