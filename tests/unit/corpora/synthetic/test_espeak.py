# SPDX-License-Identifier: Apache-2.0
"""espeak-ng through ctypes."""

from dataclasses import replace

import numpy as np
import pytest

from speechbrain_ee.corpora.synthetic.espeak import Espeak, Speaker, SynthesisError

ANNA = Speaker("en-us+f2", pitch=50, rate=180)


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    pytest.importorskip("espeakng_loader")
    return Espeak()


@pytest.mark.parametrize("variant", ["f2", "Reed", "klatt3"])  # Reed's breath is C's rand()
def test_speech_depends_on_the_arguments_alone(espeak, variant):
    speaker = Speaker(f"en-us+{variant}", pitch=50, rate=180)
    first = espeak.speak("open the door", speaker)
    espeak.speak("call jack on friday", Speaker("en-gb-scotland+Reed", 30, 220))
    np.testing.assert_array_equal(espeak.speak("open the door", speaker), first)


def test_rate_is_obeyed(espeak):
    slow, fast = (espeak.speak("open the door", replace(ANNA, rate=rate)) for rate in (100, 200))
    assert len(slow) > 1.5 * len(fast)


def test_unknown_voice(espeak):
    with pytest.raises(SynthesisError, match="no voice 'xx-nowhere'"):
        espeak.speak("stop", Speaker("xx-nowhere", 50, 180))


def test_data_path_too_long_for_espeak(espeak, monkeypatch):
    import espeakng_loader

    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: "/" + "x" * 150)
    with pytest.raises(SynthesisError, match="at a path this long"):
        Espeak()


def test_data_that_cannot_be_used_leaves_no_state_behind(espeak, monkeypatch):
    import espeakng_loader

    emma = Speaker("en+m3", 40, 170)
    before = espeak.speak("open the door", ANNA), espeak.speak("ask emma for the red fan", emma)
    with monkeypatch.context() as patch:
        patch.setattr(espeakng_loader, "get_data_path", lambda: "/nowhere")
        with pytest.raises(SynthesisError, match="cannot use its data"):
            Espeak().speak("stop", ANNA)
    espeak.speak("call jack on friday", Speaker("en-gb-scotland+Reed", 30, 220))
    np.testing.assert_array_equal(espeak.speak("ask emma for the red fan", emma), before[1])
    np.testing.assert_array_equal(espeak.speak("open the door", ANNA), before[0])
