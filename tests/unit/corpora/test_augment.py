# SPDX-License-Identifier: Apache-2.0
"""Augmentation: levels and lengths, and no random numbers but those of the generator."""

import math

import numpy as np
import pytest
import soundfile
import torch

from ee_runtime.audio import AudioError
from speechbrain_ee.corpora.augment import AddNoise, Compose, RandomGain, SpeedPerturb, coloured_noise
from speechbrain_ee.corpora.manifest import Utterance, write_manifest


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def snr_db(signal, noisy):
    return 10 * math.log10(signal.square().mean() / (noisy - signal).square().mean())


@pytest.fixture
def waveform():
    return 0.1 * torch.randn(16000, generator=seeded(1))


@pytest.mark.parametrize(("speed", "length"), [(0.9, 17778), (1.0, 16000), (1.1, 14546)])
def test_speed_scales_the_length(waveform, speed, length):
    assert SpeedPerturb(speeds=(speed,))(waveform, seeded()).shape == (length,)


def test_speed_scales_the_pitch():
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(16000) / 16000)
    faster = SpeedPerturb(speeds=(1.25,))(tone, seeded())
    peak = torch.fft.rfft(faster).abs().argmax().item() * 16000 / len(faster)
    assert peak == pytest.approx(1250, abs=2)


def test_speed_one_changes_nothing(waveform):
    assert torch.equal(SpeedPerturb(speeds=(1.0,))(waveform, seeded()), waveform)


def test_all_speeds_are_drawn(waveform):
    generator, perturb = seeded(), SpeedPerturb()
    lengths = [len(perturb(waveform[:990], generator)) for _ in range(300)]
    assert [lengths.count(length) > 70 for length in (1100, 990, 900)] == [True] * 3


@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
@pytest.mark.parametrize("wanted", [-5.0, 0.0, 20.0])
def test_noise_has_the_snr_that_was_asked_for(waveform, colour, wanted):
    add_noise = AddNoise(snr_db=(wanted, wanted), colours=(colour,))
    assert snr_db(waveform, add_noise(waveform, seeded())) == pytest.approx(wanted, abs=0.01)


def test_snr_is_drawn_from_the_whole_range(waveform):
    generator, add_noise = seeded(), AddNoise(snr_db=(5, 25))
    drawn = [snr_db(waveform, add_noise(waveform, generator)) for _ in range(100)]
    assert 4.99 < min(drawn) < 7 and 23 < max(drawn) < 25.01


@pytest.mark.parametrize(("exponent", "db_per_octave"), [(0.0, 0.0), (1.0, -3.01), (2.0, -6.02)])
def test_colour_is_the_slope_of_the_spectrum(exponent, db_per_octave):
    power = torch.fft.rfft(coloured_noise(2**17, exponent, seeded())).abs().square()
    # Mean power of three neighbouring octaves; bins are averaged, so 0.3 dB is far outside chance.
    octaves = [10 * math.log10(power[2**k : 2 ** (k + 1)].mean()) for k in (12, 13, 14)]
    assert octaves[1] - octaves[0] == pytest.approx(db_per_octave, abs=0.3)
    assert octaves[2] - octaves[1] == pytest.approx(db_per_octave, abs=0.3)


def test_silence_stays_silence():
    assert torch.equal(AddNoise()(torch.zeros(100), seeded()), torch.zeros(100))


@pytest.mark.parametrize("level", [0.0, 1e-25])  # the square of 1e-25 is 0 in float32
def test_noise_without_power_changes_nothing(tmp_path, waveform, level):
    soundfile.write(tmp_path / "n.wav", np.full(100, level), 16000, subtype="FLOAT")
    write_manifest(tmp_path / "noise.jsonl", [Utterance("n", tmp_path / "n.wav", 100 / 16000, "")])
    assert torch.equal(AddNoise(noise_manifest=tmp_path / "noise.jsonl")(waveform, seeded()), waveform)


def test_probability_zero_is_identity_and_a_half_is_a_half(waveform):
    for never in (AddNoise(probability=0.0), RandomGain(probability=0.0)):
        assert all(never(waveform, seeded(seed)) is waveform for seed in range(20))
    generator, half = seeded(), RandomGain(probability=0.5)
    changed = sum(half(waveform, generator) is not waveform for _ in range(400))
    assert 160 < changed < 240  # four standard deviations


def test_noise_files_are_used_repeated_and_cut(tmp_path, waveform):
    ramp = np.arange(1, 101, dtype=np.float64) / 200
    soundfile.write(tmp_path / "n.wav", ramp, 16000, subtype="FLOAT")
    write_manifest(tmp_path / "noise.jsonl", [Utterance("n", tmp_path / "n.wav", 100 / 16000, "")])
    add_noise = AddNoise(snr_db=(10, 10), noise_manifest=tmp_path / "noise.jsonl")
    noisy = add_noise(waveform, seeded())
    assert snr_db(waveform, noisy) == pytest.approx(10, abs=0.01)
    added = noisy - waveform
    torch.testing.assert_close(added[:100], added[100:200], rtol=0, atol=1e-6)
    assert added[:100].max() / added[:100].min() == pytest.approx(100, rel=1e-3)


def test_paths_of_noise_files_start_from_the_data_root(tmp_path, waveform):
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "n.wav", np.full(100, 0.5), 16000, subtype="FLOAT")
    row = '{"audio_filepath": "$data_root/n.wav", "duration": 0.00625, "text": ""}'
    (tmp_path / "noise.jsonl").write_text(row)
    options = {"snr_db": (10, 10), "noise_manifest": tmp_path / "noise.jsonl"}
    noisy = AddNoise(**options, data_root=tmp_path / "audio")(waveform, seeded())
    assert snr_db(waveform, noisy) == pytest.approx(10, abs=0.01)
    with pytest.raises(AudioError, match="n.wav does not exist"):
        AddNoise(**options)(waveform, seeded())


def test_gain_is_in_db():
    louder = RandomGain(gain_db=(6.0206, 6.0206))(torch.tensor([0.1, -0.2]), seeded())
    torch.testing.assert_close(louder, torch.tensor([0.2, -0.4]), rtol=1e-5, atol=0)


def test_compose_keeps_the_order(waveform):
    def plus_one(waveform, generator):
        return waveform + 1

    double = RandomGain(gain_db=(20 * math.log10(2),) * 2)
    torch.testing.assert_close(Compose([plus_one, double])(waveform, seeded()), 2 * (waveform + 1), rtol=1e-5, atol=0)
    assert Compose([])(waveform, seeded()) is waveform


def test_only_the_generator_is_random(waveform):
    augment = Compose([SpeedPerturb(), AddNoise(), RandomGain()])
    torch.manual_seed(1)
    first = augment(waveform, seeded(7))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(augment(waveform, seeded(7)), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(augment(waveform, seeded(8))[:100], first[:100])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpeedPerturb(speeds=()), "at least one number"),
        (lambda: SpeedPerturb(speeds=(0.9, 0.0)), "all above 0"),
        (lambda: AddNoise(snr_db=(25, 5)), r"snr_db is \(25, 5\)"),
        (lambda: AddNoise(probability=1.5), "probability is 1.5"),
        (lambda: AddNoise(colours=("red",)), "choose from white, pink, brown"),
        (lambda: RandomGain(gain_db=(1,)), r"gain_db is \(1,\)"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
