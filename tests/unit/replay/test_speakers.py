# SPDX-License-Identifier: Apache-2.0
"""Groups of utterances by speaker, by hand."""

import numpy as np
import pytest

from speechbrain_ee.replay.speakers import speaker_groups, split_by_speaker, sum_by_speaker


def test_rows_of_a_speaker_are_summed():
    values = np.array([[1, 10], [2, 20], [3, 30], [4, 40]])
    assert sum_by_speaker(values, ["a", "b", "a", None]).tolist() == [[4, 40], [2, 20], [4, 40]]
    assert sum_by_speaker(values, None) is values
    with pytest.raises(ValueError, match="got 1 speakers for 4 utterances; give one each"):
        sum_by_speaker(values, ["a"])


@pytest.mark.parametrize("speakers", [[None] * 4, ["a"] * 4, [1, 2, 3, 4]])
def test_unknown_or_single_speakers_group_nothing(speakers):
    assert speaker_groups(speakers).tolist() == [0, 1, 2, 3]
    assert sum_by_speaker(np.arange(4), speakers).tolist() == [0, 1, 2, 3]
    first, second = split_by_speaker([{"speaker": one} for one in speakers])
    assert (len(first), len(second)) == (2, 2)
