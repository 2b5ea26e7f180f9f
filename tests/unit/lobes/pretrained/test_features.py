# SPDX-License-Identifier: Apache-2.0
"""Features of pretrained encoders equal those of the library for one utterance, in any batch."""

import pytest
import torch
import transformers

from speechbrain_ee.lobes import Waveform, WhisperLogMel

SAMPLES = (16000, 9999, 480, 7)


def noise_batch():
    generator = torch.Generator().manual_seed(0)
    wavs = torch.randn(len(SAMPLES), max(SAMPLES), generator=generator) * torch.tensor([[0.1], [3.0], [0.01], [1.0]])
    return wavs, torch.tensor(SAMPLES)


@pytest.mark.parametrize("features", [Waveform(normalize=True), Waveform(normalize=False), WhisperLogMel(n_mels=20)])
def test_law_4_features_do_not_depend_on_the_batch(features):
    wavs, num_samples = noise_batch()
    together, frames = features(wavs, num_samples)
    assert together.isfinite().all()
    for row, samples in enumerate(SAMPLES):
        alone, own_frames = features(wavs[row : row + 1, :samples], num_samples[row : row + 1])
        assert own_frames[0] == frames[row] == features.num_frames(samples)
        torch.testing.assert_close(together[row, : frames[row]], alone[0], atol=1e-5, rtol=1e-5)


def test_waveform_is_normalised_as_the_library_does():
    wav = torch.randn(5000) * 3 + 1
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    feats, _ = Waveform(normalize=True)(wav[None], torch.tensor([5000]))
    # its epsilon is 1e-7 instead of SpeechBrain's 1e-5, with a variance of 9
    torch.testing.assert_close(feats[:, :, 0], expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("samples", [480000, 16000, 12345])
def test_whisper_features_are_those_of_the_library_without_padding(samples):
    wav = torch.randn(samples, generator=torch.Generator().manual_seed(1))
    extractor = transformers.WhisperFeatureExtractor()
    expected = extractor(wav.numpy(), sampling_rate=16000, return_tensors="pt", padding="do_not_pad").input_features
    feats, num_frames = WhisperLogMel()(wav[None], torch.tensor([samples]))
    assert num_frames.tolist() == [samples // 160] == [expected.shape[2]]
    torch.testing.assert_close(feats, expected.transpose(1, 2), atol=5e-5, rtol=1e-4)


def test_whisper_features_stay_float32_under_autocast():
    wavs, num_samples = noise_batch()
    features = WhisperLogMel(n_mels=20)
    expected, _ = features(wavs, num_samples)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feats, _ = features(wavs, num_samples)
    assert torch.equal(feats, expected)


def test_statistics_are_not_measured_so_no_waveform_is_read():
    def never():
        raise AssertionError("read")
        yield

    assert WhisperLogMel().fit(never()) == 0


def test_whisper_padded_to_30_s_is_what_the_library_makes_of_it():
    wavs, num_samples = noise_batch()
    expected = transformers.WhisperFeatureExtractor()(
        [wavs[row, :samples].numpy() for row, samples in enumerate(SAMPLES)], sampling_rate=16000, return_tensors="pt"
    ).input_features
    features = WhisperLogMel(pad_s=30)
    feats, frames = features(wavs, num_samples)
    assert frames.tolist() == [3000] * 4 and features.num_frames(7) == 3000
    torch.testing.assert_close(feats, expected.transpose(1, 2), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("seconds", [0, 31])
def test_seconds_that_whisper_does_not_take_are_refused(seconds):
    with pytest.raises(ValueError, match="give seconds above 0 and at most 30"):
        WhisperLogMel(pad_s=seconds)


@pytest.mark.parametrize("features", [Waveform(normalize=True, downsample=2), WhisperLogMel(n_mels=20, downsample=3)])
def test_law_4_shorter_features_do_not_depend_on_the_batch(features):
    wavs, num_samples = noise_batch()
    together, frames = features(wavs, num_samples)
    for row, samples in enumerate(SAMPLES):
        alone, own_frames = features(wavs[row : row + 1, :samples], num_samples[row : row + 1])
        assert own_frames[0] == frames[row] == features.num_frames(samples) == alone.shape[1]
        torch.testing.assert_close(together[row, : frames[row]], alone[0], atol=1e-5, rtol=1e-5)


def test_a_decimated_waveform_keeps_what_is_below_half_the_rate():
    time_s = torch.arange(16000) / 16000
    low, high = (torch.sin(2 * torch.pi * hertz * time_s) for hertz in (440, 6000))
    features = Waveform(normalize=False, downsample=2)
    feats, _ = features(torch.stack([low, high]), torch.tensor([16000, 16000]))
    inner = feats[:, 100:-100, 0]
    torch.testing.assert_close(inner[0], low[::2][100:-100], atol=0.01, rtol=0)
    assert inner[1].abs().max() < 0.01


def test_whisper_frames_are_averaged():
    wavs, num_samples = noise_batch()
    feats, _ = WhisperLogMel(n_mels=20)(wavs[:1], num_samples[:1])
    shorter, frames = WhisperLogMel(n_mels=20, downsample=3)(wavs[:1], num_samples[:1])
    assert frames.tolist() == [34]
    torch.testing.assert_close(shorter[0, 3], feats[0, 9:12].mean(0))
    torch.testing.assert_close(shorter[0, 33], feats[0, 99])


@pytest.mark.parametrize("factor", [0, 1.5, True])
def test_no_whole_factor_is_refused(factor):
    with pytest.raises(ValueError, match="give an integer >= 1"):
        WhisperLogMel(downsample=factor)


def test_a_factor_that_does_not_divide_the_rate_is_refused():
    with pytest.raises(ValueError, match="downsample=3 does not divide the sample rate of 16000 Hz"):
        Waveform(normalize=True, downsample=3)
