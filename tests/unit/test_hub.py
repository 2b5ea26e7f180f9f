# SPDX-License-Identifier: Apache-2.0
"""Models by their Hub names, from a local server."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import soundfile
import torch
from hub import run_with, serve
from unit.models import make_asr

from speechbrain_ee.lobes import Waveform, WavLMExitEncoder, WhisperExitEncoder, WhisperLogMel
from speechbrain_ee.lobes.pretrained.sources import pretrained_source
from speechbrain_ee.model.folder import save_model

ENCODER = """
from unit.test_hub import describe_encoder
print(describe_encoder({family!r}, {source!r}))
"""


def describe_encoder(family, source):
    encoder_class, features_class = {
        "wavlm": (WavLMExitEncoder, Waveform),
        "whisper": (WhisperExitEncoder, WhisperLogMel),
    }[family]
    features = features_class(source=source)
    encoder = encoder_class(num_layers=2, exit_layers=[2], source=source)
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return f"{digest.hexdigest()} {features.config}"


@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_a_pretrained_encoder_from_the_hub_is_the_one_in_the_folder(tmp_path, family):
    folder = pretrained_source(source=None, family=family, folder=str(tmp_path / "tiny"))
    with serve(user__tiny=folder) as server:
        ended = run_with(server, tmp_path / "cache", ENCODER.format(family=family, source="user/tiny"))
        assert any("model.safetensors" in path for path in server.asked)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == describe_encoder(family, folder)


def test_a_name_that_is_not_there_is_one_line(tmp_path):
    with serve() as server:
        ended = run_with(server, tmp_path / "cache", ENCODER.format(family="wavlm", source="user/nothing"))
    last = ended.stderr.strip().splitlines()[-1]
    assert "ValueError: user/nothing is not a folder, and its preprocessor_config.json" in last


TRANSCRIBE = """
import sys
sys.argv = ["speechbrain-ee", "transcribe", "--model", "user/model", "--full", "--json", {wav!r}]
from speechbrain_ee.cli.app import main
main()
"""


def test_a_trained_model_from_the_hub_transcribes_as_from_its_folder(tmp_path):
    asr = make_asr(tmp_path)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    waveform = torch.randn(8000, generator=torch.Generator().manual_seed(0)) / 10
    wav = tmp_path / "a.wav"
    soundfile.write(wav, waveform.numpy(), 16000, subtype="FLOAT")
    with serve(user__model=tmp_path / "model") as server:
        ended = run_with(server, tmp_path / "cache", TRANSCRIBE.format(wav=str(wav)))
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["text"] == asr.transcribe_file(wav).text


class _Other(BaseHTTPRequestHandler):
    """A server that is not the Hub: it answers every request with the same body."""

    def answer(self):
        self.send_response(200)
        for name, value in {"X-Repo-Commit": "1" * 40, "ETag": '"1"', "Content-Length": len(self.server.body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.server.body)

    do_GET = do_HEAD = answer

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.parametrize(
    "body", [b'{"id": "user/model", "sha": "' + b"1" * 40 + b'", "siblings": []}', b"[1]", b"<html>", b""]
)
def test_a_server_that_is_not_the_hub_is_one_line(tmp_path, body):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Other)
    server.body, server.url = body, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        ended = run_with(server, tmp_path / "cache", TRANSCRIBE.format(wav="a.wav"))
    finally:
        server.shutdown()
        server.server_close()
    *_, last = ended.stderr.strip().splitlines()
    assert ended.returncode and "Traceback" not in ended.stderr
    assert last.startswith("speechbrain-ee: error: user/model: ")
    # Old versions of the client do not ask for the files of an empty model.
    assert "check HF_ENDPOINT" in last or ("siblings" in str(body) and "config.json on the Hub does not exist" in last)
