# SPDX-License-Identifier: Apache-2.0
"""What an evaluation reports: contracts, hand-worked numbers, full disks."""

import csv
import errno
import json
import os

import pytest
from unit.cases import subset, three_utterances

from speechbrain_ee.evaluation import tables as report
from speechbrain_ee.evaluation.plots import draw_exits
from speechbrain_ee.evaluation.tables import exits_markdown, exits_table, write_exits

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def utterances():
    return three_utterances()


def _write(out_dir, utterances, **options):
    options = {"test_set": "test", "decoding": "greedy", "params": [10, 20], **options}
    return write_exits(out_dir, utterances, **options)


class TestExits:
    def test_numbers_by_hand(self, tmp_path, utterances):
        exits = _write(tmp_path, utterances, rtf=[0.01, 0.02], rtf_machine={"cpu": "C 1"})
        first, last = exits["exits"]
        assert {k: first[k] for k in ("layer", "params", "macs_per_s", "rtf")} == {
            "layer": 2,
            "params": 10,
            "macs_per_s": 500.0,
            "rtf": 0.01,
        }
        assert (first["wer"], last["wer"]) == (50.0, 25.0)
        # Of 5 + 2 + 2 characters 1 + 2 are wrong at layer 2, and 1 at layer 4.
        assert first["cer"] == pytest.approx(100 * 3 / 9)
        assert last["cer"] == pytest.approx(100 * 1 / 9)
        # Two speakers: a draw is s1 twice, s2 twice (1 error in 1 word), or both.
        assert last["wer_ci95"] == [0.0, 100.0]
        assert exits["oracle"] == {"wer": 25.0, "mean_layer": pytest.approx(8 / 3)}
        assert exits["machine"] == {"cpu": "C 1"}

    def test_keys_are_the_contract(self, tmp_path, utterances):
        exits = _write(tmp_path, utterances)
        assert {k: v for k, v in exits.items() if k not in ("exits", "oracle")} == {
            "test_set": "test",
            "decoding": "greedy",
            "error_unit": "word",
            "num_utterances": 3,
            "num_words": 4,
            "num_chars": 9,
            "duration_s": 6.0,
        }
        keys = ["layer", "wer", "wer_ci95", "cer", "params", "macs_per_s", "rtf"]
        assert [list(row) for row in exits["exits"]] == [keys, keys]
        assert json.loads((tmp_path / "exits.json").read_text()) == exits

    def test_unmeasured_cells_are_null(self, tmp_path, utterances):
        exits = _write(tmp_path, subset(utterances), params=None)
        for row in exits["exits"]:
            assert [row[k] for k in ("cer", "params", "macs_per_s", "rtf")] == [None] * 4
        assert exits["duration_s"] is None
        assert "machine" not in exits

    def test_policies_json_has_every_score_of_the_file(self, tmp_path, utterances):
        _write(tmp_path, utterances)
        curves = json.loads((tmp_path / "policies.json").read_text())
        assert list(curves) == ["entropy", "posterior"]
        for entries in curves.values():
            assert [e["mean_layer"] for e in entries] == [4.0, pytest.approx(10 / 3), 8 / 3, 2.0]
        del utterances[2]["exits"][1]["scores"]["posterior"]
        _write(tmp_path, utterances)
        assert list(json.loads((tmp_path / "policies.json").read_text())) == ["entropy"]

    def test_csv_says_the_same(self, tmp_path, utterances):
        exits = _write(tmp_path, utterances)
        with open(tmp_path / "exits.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        for row, expected in zip(rows, exits["exits"], strict=True):
            assert [float(row[k]) for k in ("wer_low", "wer_high")] == expected["wer_ci95"]
            assert float(row["wer"]) == expected["wer"]
            assert int(row["params"]) == expected["params"]
            assert row["rtf"] == ""

    def test_a_value_too_few_is_refused(self, tmp_path, utterances):
        with pytest.raises(ValueError, match="params has 1 values for exits 2, 4"):
            _write(tmp_path, utterances, params=[10])
        with pytest.raises(ValueError, match="rtf has 3 values"):
            _write(tmp_path, utterances, rtf=[1, 2, 3])
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_keeps_the_old_files_whole(self, tmp_path, utterances, monkeypatch):
        before = _write(tmp_path, utterances)

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"cannot write .*policies\.json: No space left"):
            _write(tmp_path, utterances[:2])
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["exits.csv", "exits.json", "exits.png", "policies.json"]
        assert json.loads((tmp_path / "exits.json").read_text()) == before


class TestPicture:
    def _axes(self, exits, curves=None, **options):
        """Draw, and look at the drawing instead of its pixels."""
        from matplotlib.figure import Figure

        seen = []
        add = Figure.add_subplot
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "add_subplot", lambda *a, **k: seen.append(add(*a, **k)) or seen[0])
            assert draw_exits(exits, curves, **options).startswith(PNG)
        return seen[0]

    def test_exits_against_their_share_of_macs(self, tmp_path, utterances):
        exits = _write(tmp_path, utterances)
        curves = json.loads((tmp_path / "policies.json").read_text())
        axes = self._axes(exits, curves, oracle_macs_per_s=750.0)
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        assert lines["oracle"] == [[75.0, 25.0]]
        assert lines["entropy"][0] == [100.0, 25.0]  # full depth
        assert lines["entropy"][-1] == [50.0, 50.0]  # always the first exit
        assert [text.get_text() for text in axes.texts] == ["layer 2", "layer 4"]
        assert "MACs" in axes.get_xlabel()
        assert axes.get_legend().get_texts()[0].get_text() == "static exits (95 %)"

    def test_without_macs_the_axis_is_layers(self, tmp_path, utterances):
        axes = self._axes(_write(tmp_path, subset(utterances), params=None))
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        assert lines["oracle"] == [[pytest.approx(100 * 8 / 3 / 4), 25.0]]
        assert "layers" in axes.get_xlabel()

    def test_no_error_at_all_can_be_drawn(self, tmp_path, utterances):
        _write(tmp_path, utterances[1:2])  # WER 0 has no place on a log scale
        assert (tmp_path / "exits.png").read_bytes().startswith(PNG)


class TestTables:
    def test_columns_line_up(self, tmp_path, utterances):
        exits = _write(tmp_path, utterances, rtf=[0.01, 0.02], rtf_machine={"cpu": "C 1"})
        header, *rows, oracle, machine = exits_table(exits).splitlines()
        assert {len(line) for line in (header, *rows)} == {len(header)}
        # Draws of speakers: s1 alone (1 error, 3 words), s2 alone (1 error, 1 word), or both.
        assert rows[0].split() == "0 2 50.0 50.00 [33.33, 100.00] 33.33 0.0100".split()
        assert rows[1].split() == "1 4 100.0 25.00 [0.00, 100.00] 11.11 0.0200".split()
        assert oracle == "oracle: WER 25.00 % at mean layer 2.67"
        assert machine == "RTF was measured on C 1"

    def test_the_machine_is_described_in_words(self, tmp_path, utterances):
        cpu = {"cpu": "C 1", "threads": 1, "gemm_gflops": 99.6, "device": "cpu"}
        gpu = cpu | {"threads": 2, "device": "cuda:0"}
        ends = [
            exits_table(_write(tmp_path, utterances, rtf_machine=machine)).splitlines()[-1] for machine in (cpu, gpu)
        ]
        rate = "(float32 matrix products at 99.6 GFLOP/s)"
        assert ends[0] == f"RTF was measured on C 1 with 1 thread {rate}"
        assert ends[1] == f"RTF was measured on cuda:0; CPU: C 1 with 2 threads {rate}"

    def test_unmeasured_cells_say_so(self, tmp_path, utterances):
        exits = _write(tmp_path, subset(utterances), params=None)
        assert exits_table(exits).splitlines()[1].count(report.NOT_MEASURED) == 3

    def test_markdown_has_the_same_cells(self, tmp_path, utterances):
        lines = exits_markdown(_write(tmp_path, utterances)).splitlines()
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:4]]
        assert cells[0] == ["exit", "layer", "MACs %", "WER % [95 %]", "CER %", "RTF"]
        assert {len(row) for row in cells} == {6}
        assert cells[3] == ["1", "4", "100.0", "25.00 [0.00, 100.00]", "11.11", "not measured"]
