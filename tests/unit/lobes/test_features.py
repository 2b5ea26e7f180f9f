# SPDX-License-Identifier: Apache-2.0
"""Log-mel features: lengths, padding, statistics."""

import math

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from speechbrain_ee.lobes import LogMel


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hop_length_ms": 12.5},
        {"sample_rate": 8000, "n_fft": 256},
        {"sample_rate": 22050, "n_fft": 600, "hop_length_ms": 10.5},  # 231.525 samples: SpeechBrain takes 232
        {"n_fft": 401},
    ],
)
def test_number_of_frames_is_the_stft_own(settings):
    features = LogMel(n_mels=20, **settings)
    for num_samples in (401, 1599, 1600, 1601, 4639, 4640, 4641):
        feats, num_frames = features(torch.randn(1, num_samples), torch.tensor([num_samples]))
        assert feats.shape[1] == num_frames.item() == features.num_frames(num_samples)


def test_a_single_sample_is_one_frame():
    feats, num_frames = LogMel(n_mels=20)(torch.ones(1, 1), torch.tensor([1]))
    assert feats.shape == (1, 1, 20)
    assert num_frames.tolist() == [1]
    assert feats.isfinite().all()


@pytest.mark.parametrize("padding", [0.0, 100.0, float("nan")])
def test_padding_changes_no_frame(padding):
    wavs = [torch.randn(9000), torch.randn(3333), torch.zeros(200)]
    features = LogMel(n_mels=20)
    padded = pad_sequence(wavs, batch_first=True, padding_value=padding)
    feats, num_frames = features(padded, torch.tensor([9000, 3333, 200]))
    for row, wav in enumerate(wavs):
        alone, _ = features(wav.unsqueeze(0), torch.tensor([len(wav)]))
        torch.testing.assert_close(feats[row, : num_frames[row]], alone[0], atol=1e-4, rtol=0)  # in dB


def test_doubling_the_waveform_adds_six_decibels():
    features, wav = LogMel(n_mels=20), torch.randn(1, 16000)
    soft, loud = (features(gain * wav, torch.tensor([16000]))[0] for gain in (1, 2))
    torch.testing.assert_close(loud - soft, torch.full_like(soft, 20 * math.log10(2)), atol=1e-3, rtol=0)


def test_fit_measures_over_frames_of_all_waveforms():
    features = LogMel(n_mels=20)
    wavs = [torch.randn(8000), 0.1 * torch.randn(16000)]
    frames = torch.cat([features(wav.unsqueeze(0), torch.tensor([len(wav)]))[0][0] for wav in wavs])
    assert features.fit(iter(wavs)) == len(frames) == 51 + 101
    torch.testing.assert_close(features.mean, frames.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(features.std, frames.std(0, correction=0), atol=1e-4, rtol=0)
    normalised = torch.cat([features(wav.unsqueeze(0), torch.tensor([len(wav)]))[0][0] for wav in wavs])
    torch.testing.assert_close(normalised.mean(0), torch.zeros(20), atol=1e-4, rtol=0)
    assert {"mean", "std"} <= features.state_dict().keys()


def test_fit_on_silence_keeps_features_finite():
    features = LogMel(n_mels=20)
    features.fit([torch.zeros(1600)])
    assert features(torch.randn(1, 1600), torch.tensor([1600]))[0].isfinite().all()


def test_fit_without_waveforms_is_refused():
    with pytest.raises(ValueError, match="without waveforms"):
        LogMel(n_mels=20).fit([])


def test_a_window_longer_than_the_transform_is_refused():
    with pytest.raises(ValueError, match="1102 samples at 44100 Hz, more than n_fft=400: raise n_fft"):
        LogMel(sample_rate=44100)


def test_autocast_leaves_features_in_float32():
    features, wav = LogMel(n_mels=20), torch.randn(1, 8000)
    expected, _ = features(wav, torch.tensor([8000]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        feats, _ = features(wav, torch.tensor([8000]))
    assert torch.equal(feats, expected)
