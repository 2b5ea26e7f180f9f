# SPDX-License-Identifier: Apache-2.0
import pytest

from speechbrain_ee.hparams import load_hparams


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("lr: 1", "lr: 2\nlr: 3", 'and the options of the command: found duplicate key "lr"'),
        ("lr: 1", "rate: 2", r"^Override 'rate' not found in: \['lr'\]$"),
        ("lr: [1", "", "a.yaml and the options of the command: "),
        ("size: 1\nx: !new:torch.nn.Linear\n  in_features: !ref <size>", "", "^Invalid argument to class torch.nn.Lin"),
        ("x: !new:torch.nn.Lineal", "", "There is no such class as torch.nn.Lineal"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, overrides, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, ImportError), match=message):
        load_hparams(path, overrides)
