# SPDX-License-Identifier: Apache-2.0
"""Computations of the benchmark scripts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from unit.cases import many
from unit.models import make_asr

from benchmarks import bulk, calibrated, demo, languages, promise, replay, side_by_side, two_processes
from benchmarks.batch_mean import Batch
from benchmarks.equal_cost import judged_sets
from benchmarks.side_by_side import markdown, named_runs, publish, read
from benchmarks.training_strategies import strategies
from ee_runtime.policies import ScoreThreshold
from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.calibration.path import threshold_path
from speechbrain_ee.calibration.risk import LossSums, furthest_safe, p_values
from speechbrain_ee.calibration.targets import Promise
from speechbrain_ee.corpora.manifest import Utterance, read_manifest, write_manifest
from speechbrain_ee.lobes.cost import exit_macs
from speechbrain_ee.replay.replay import replay as replay_policy


def noise(*seconds):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(int(16000 * length), generator=generator) / 10 for length in seconds]


@torch.no_grad()
def test_a_batch_of_one_decides_the_same_both_ways_and_as_the_product_does(tmp_path):
    asr = make_asr(tmp_path)
    for waveform in noise(0.3, 0.1):
        batch = Batch(asr, [waveform])
        for threshold in (0.0, *(value + 1e-4 for value in batch.of_batch), 1.0):
            exits = batch.apart(threshold)
            assert exits == batch.together(threshold)
            (result,) = asr.transcribe_waveforms([waveform], policy=ScoreThreshold("entropy", threshold))
            assert asr.exit_layers[exits[0]] == result.exit_layer
            assert batch.cost(exits) == result.macs


@torch.no_grad()
def test_padding_weighs_in_the_mean_over_a_batch_and_in_its_cost(tmp_path):
    asr = make_asr(tmp_path)
    long, short = noise(0.3, 0.1)
    batch = Batch(asr, [long, short])
    alone = [Batch(asr, [one]) for one in (long, short)]
    for row, one in enumerate(alone):
        assert batch.of_utterances[row] == pytest.approx(one.of_utterances[0], abs=1e-5)
    assert batch.of_batch[0] != pytest.approx(sum(one.of_batch[0] for one in alone) / 2, abs=1e-5)
    full = exit_macs(asr.mods.encoder, asr.mods.heads, int(batch.frames[0]))
    assert batch.cost([2, 2]) == 2 * full[2]
    assert batch.cost([2, 0]) == 2 * full[0] + (full[2] - full[0]), "utterances that left the batch cost nothing"


def test_strategies_differ_in_options_only(tmp_path):
    options = strategies(tmp_path, 3)
    assert options["joint"] == []
    assert options["last"] == ["--exit_weights", "[0, 0, 1]"]
    assert options["two_stages"][-4:] == ["--exit_weights", "[1, 1, 0]", "--select", "mean"]
    assert str(tmp_path / "last") in options["two_stages"]


def test_a_table_leaves_out_what_was_not_trained():
    exits = [
        {"layer": layer, "wer": 10.0 + layer, "wer_ci95": [9.0, 14.0], "macs_per_s": 1e9 * layer} for layer in (1, 2)
    ]
    results = {"runs": {"joint": {"sets": {"dev": exits}}, "last": {"sets": {"dev": exits[-1:]}}}}
    assert markdown(results).splitlines()[3:] == [
        "| layer | joint | last |",
        "|---|---|---|",
        "| 1 | 11.0 [9.0, 14.0] 1000M |  |",
        "| 2 | 12.0 [9.0, 14.0] 2000M | 12.0 [9.0, 14.0] 2000M |",
    ]


@pytest.mark.parametrize("given", ["nonsense", "=folder", "a=/nothing", "a=/nothing.json#exits"])
def test_a_run_that_is_none_is_refused(given):
    with pytest.raises(ValueError, match="give NAME=FOLDER, where FOLDER has eval"):
        named_runs([given])


def test_a_run_is_read_from_what_was_published(tmp_path):
    exits = [{"layer": 1, "wer": 10.0, "wer_ci95": [9.0, 14.0], "macs_per_s": 1e9}]
    runs = {"joint": {"sets": {"dev": exits}}, "last": {"sets": {"dev": exits[-1:]}}}
    publish({"runs": runs}, tmp_path / "strategies")
    assert (tmp_path / "strategies-dev.png").exists()
    place = f"{tmp_path / 'strategies.json'}#joint"
    assert named_runs([f"pretrained={place}"]) == {"pretrained": place}
    assert read(place) == {"dev": exits}
    with pytest.raises(ValueError, match="FILE.json#RUN"):
        named_runs([f"pretrained={tmp_path / 'strategies.json'}#nothing"])


def test_sets_are_chosen(tmp_path, monkeypatch, capsys):
    exits = [{"layer": 1, "wer": 10.0, "wer_ci95": [9.0, 14.0], "macs_per_s": 1e9}]
    publish({"runs": {"joint": {"sets": {"dev": exits, "test": exits}}}}, tmp_path / "strategies")
    command = ["side_by_side.py", f"a={tmp_path / 'strategies.json'}#joint", "--out", str(tmp_path / "one"), "--sets"]
    monkeypatch.setattr("sys.argv", [*command, "test"])
    side_by_side.main()
    assert json.loads((tmp_path / "one.json").read_text("utf-8")) == {"runs": {"a": {"sets": {"test": exits}}}}
    monkeypatch.setattr("sys.argv", [*command, "tset"])
    with pytest.raises(SystemExit):
        side_by_side.main()
    assert "--sets tset: the runs have dev test" in capsys.readouterr().err


def test_the_learned_score_is_judged_on_speakers_that_it_was_not_fitted_on(monkeypatch):
    utterances = many(60, speakers=6)
    fitted = []

    def remember(of, names):
        fitted.append({one["speaker"] for one in of})
        return fit_learned_score(of, names)

    judged = []
    monkeypatch.setattr(replay, "fit_learned_score", remember)
    monkeypatch.setattr(
        replay, "wer_at_mean_layer", lambda policy, of, target: judged.append({one["speaker"] for one in of}) or 1.0
    )
    assert replay.learned(utterances, [4.0]) == {4.0: 1.0}
    assert len(fitted) == len(judged) == 2 * replay.NUM_SPLITS
    assert all(len(a) == len(b) == 3 and not a & b for a, b in zip(fitted, judged, strict=True))


def test_a_promise_is_simulated_as_it_is_made():
    population = promise.Population("made", many(300, speakers=30), by_speaker=True)
    assert promise.simulate(population, 20, 50) == {}, "calibrate refuses this size"
    counts = population.draw(40, 5)
    p = p_values(LossSums.of(population.extra, population.words, counts), epsilon=2.0, by_speaker=True)
    for row, steps in zip(counts.astype(int), furthest_safe(p, promise.DELTA), strict=True):
        drawn = []
        for speaker, times in enumerate(row):
            own = [one for one in population.utterances if one["speaker"] == f"s{speaker}"]
            drawn += [{**one, "speaker": f"{speaker}-{copy}"} for copy in range(times) for one in own]
        path = threshold_path(ScoreThreshold("entropy", 0.0), None, 3)
        policy, record = Promise(2.0).choose(ScoreThreshold("entropy", 0.0), drawn, path)
        saved = 1 - np.mean([result_layer(policy, one) for one in population.utterances]) / 6
        assert record["num_independent"] == 40
        assert np.append(0.0, population.saved)[steps] == pytest.approx(saved)


def result_layer(policy, utterance):
    return replay_policy(policy, [utterance]).mean_layer


def test_the_table_of_promises_says_the_most_that_was_broken():
    def sizes(broken):
        row = {"broken": broken, "granted": 1.0, "layers_saved": 0.25}
        return {"40": {str(epsilon): {"gamma": row, "t": row, "naive": row} for epsilon in promise.EPSILONS}}

    made = [
        {"population": name, "drawn": "speakers", "sizes": {"10": {}} | sizes(x)} for name, x in (("a", 0), ("b", 0.05))
    ]
    made += [{"population": "c", "drawn": "utterances", "sizes": sizes(0.09)}]
    file = {"population": "f", "drawn": "speakers", "sizes": sizes(0.01)}
    table = promise.markdown({"files": [file], "made": made})
    assert "| entropy | 0.25 | gamma | 1.0 / 100 / 25.0 |" in table
    assert table.splitlines()[-1] == "| 2.0 | naive | 5.0 |"


def test_a_score_is_judged_where_texts_were_decoded_as_those_it_is_fitted_to(tmp_path):
    for test_set, decoding in (("dev", "greedy"), ("test", "greedy"), ("test-lm", "beam")):
        folder = tmp_path / "eval" / test_set
        folder.mkdir(parents=True)
        (folder / "exits.json").write_text(json.dumps({"decoding": decoding}), "utf-8")
        (folder / "utterances.jsonl").touch()
    assert judged_sets(tmp_path, "dev") == {"test": tmp_path / "eval" / "test" / "utterances.jsonl"}


def demo_run(folder):
    """Write a run with two utterances of 10 words and 1 s; the first stops at exit 1, with one error."""
    test = folder / "eval" / "test"
    test.mkdir(parents=True)
    lines = []
    for number, (entropy, errors) in enumerate(((0.1, 1), (0.9, 5))):
        exits = [
            {
                "layer": layer,
                "errors": {"S": found, "D": 0, "I": 0},
                "scores": {"entropy": entropy},
                "macs": 100 * layer,
            }
            for layer, found in ((1, errors), (2, 0))
        ]
        lines.append({"id": f"u{number}", "duration": 1.0, "reference": "a", "num_words": 10, "exits": exits})
    (test / "utterances.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    row = {"wer": 0.0, "wer_ci95": [0.0, 0.0], "cer": 0.0, "params": 1, "rtf": 0.1}
    exits = {"exits": [row | {"layer": layer, "macs_per_s": 100.0 * layer} for layer in (1, 2)]}
    exits |= {"oracle": {"wer": 0.0, "mean_layer": 2.0}, "machine": {"cpu": "x"}}
    (test / "exits.json").write_text(json.dumps(exits), "utf-8")
    (test / "exits.png").write_bytes(b"png")
    policy = {"policy": "score_threshold", "score": "entropy", "threshold": 0.5}
    (folder / "calibration.json").write_text(json.dumps({"policy": policy}), "utf-8")
    return folder


def test_the_demo_renews_its_files_and_the_readme(tmp_path):
    run = demo_run(tmp_path / "run")
    readme = "before\n<!-- results: docs/results/demo/exits.json -->\nstale\n<!-- /results -->\nbetween\n"
    readme += "<!-- table: docs/results/demo/policy.json by benchmarks.demo -->\n<!-- /table -->\nafter\n"
    (tmp_path / "README.md").write_text(readme, "utf-8")
    demo.renew(run, tmp_path)
    out = tmp_path / "docs" / "results" / "demo"
    assert sorted(path.name for path in out.iterdir()) == ["calibration.json", "exits.json", "exits.png", "policy.json"]
    figures = json.loads((out / "policy.json").read_text("utf-8"))
    assert (figures["wer"], figures["mean_layer"], figures["macs_per_s"]) == (5.0, 1.5, 150.0)
    assert figures["histogram"] == {"1": 1, "2": 1} and figures["full"] == {"layer": 2, "macs_per_s": 200.0}
    page = (tmp_path / "README.md").read_text("utf-8")
    assert "stale" not in page and page.startswith("before\n") and page.endswith("<!-- /table -->\nafter\n")
    assert (
        "the mean exit layer is 1.50 of 2 and WER is 5.00 %. This policy needs\n75.0 % of the MACs of full depth"
        in page
    )
    assert "| exit | layer |" in page
    demo.renew(run, tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == page


def test_a_demo_that_was_not_run_is_refused_and_nothing_is_written(tmp_path):
    run = demo_run(tmp_path / "run")
    (run / "calibration.json").unlink()
    with pytest.raises(ValueError, match="calibration.json: train it with python train.py hparams/conformer_ee.yaml"):
        demo.renew(run, tmp_path)
    assert not (tmp_path / "docs").exists()


def test_a_page_without_the_markers_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("no markers\n", "utf-8")
    with pytest.raises(ValueError, match="the page has <!-- results: docs/results/demo/exits.json --> 0 times"):
        demo.renew(demo_run(tmp_path / "run"), tmp_path)
    assert not (tmp_path / "docs").exists()


def test_the_difference_of_one_and_two_processes_stands_beside_that_of_two_seeds():
    last = {"one-1": 10.0, "two-1": 11.0, "one-2": 14.0, "two-2": 12.0}
    runs = {name: {"epochs": {"train loss": [99.0, value]}} for name, value in last.items()}
    assert two_processes.differences(runs, "train loss") == {
        "one": 12.0,
        "two": 11.5,
        "between_ways": 1.5,  # of 1 for the first seed and 2 for the second
        "between_seeds": 2.5,  # of 4 on one process and 1 on two
    }


def test_the_largest_difference_of_steps_is_relative():
    one, two = [2.0] * 49 + [4.0, 10.0], [2.0] * 49 + [4.002, 9.0]
    assert two_processes.exact_difference(one, two) == {"steps": 51, "first_50": 0.0005, "all": 0.1}


def test_the_speed_of_many_files_leaves_out_the_start():
    common = {"mean_layer": 4.0, "macs": 9}
    runs = [common | {"files": 2000, "audio_s": 8000.0, "seconds": seconds} for seconds in (110.0, 100.0)]
    starts = [common | {"files": 40, "audio_s": 160.0, "seconds": seconds} for seconds in (20.0, 30.0)]
    found = bulk.speed(runs, starts)
    assert found == common | {"seconds": 100.0, "start_s": 20.0, "utterances_per_s": 24.5, "audio_h_per_h": 98.0}


@pytest.mark.parametrize("language", languages.VOICES)
def test_a_corpus_in_another_language_shares_no_sentence_and_no_speaker(language):
    jobs = languages.plan(language, {"train": 300, "dev": 100, "test": 100}, seed=1)
    sentences = [job.text for job in jobs if job.split != "train" or int(job.id[-5:]) >= 90]  # after the fragments
    assert len(set(sentences)) == 410 and "{" not in "".join(job.text for job in jobs)
    speakers = [{job.speaker for job in jobs if job.split == split} for split in languages.SPEAKERS]
    assert list(map(len, speakers)) == list(languages.SPEAKERS.values())
    assert len(set.union(*speakers)) == sum(languages.SPEAKERS.values())
    assert (language == "chinese") == all(" " not in job.text for job in jobs)


def write_set(run, name, utterances):
    folder = run / "eval" / name
    folder.mkdir(parents=True)
    (folder / "utterances.jsonl").write_text("".join(json.dumps(one) + "\n" for one in utterances), "utf-8")
    (folder / "exits.json").write_text(json.dumps({"decoding": {"method": "greedy"}}), "utf-8")


def test_a_policy_calibrated_on_one_set_is_measured_on_the_others(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(calibrated.__file__).parent))
    write_set(tmp_path, "dev", many(200))
    write_set(tmp_path, "test", many(300, seed=1))
    found = calibrated.calibrated(tmp_path, "dev", ["entropy"], increase=1.0)
    assert found["full depth"]["test"]["increase"] == 0 and found["full depth"]["test"]["macs_share"] == 1
    assert 0 < found["entropy"]["dev"]["increase"] <= 1 and found["entropy"]["dev"]["macs_share"] < 1
    policy = ScoreThreshold("entropy", 0.5)
    assert calibrated.measured(policy, many(300, seed=1))["wer"] == pytest.approx(
        replay_policy(policy, many(300, seed=1)).wer, abs=0.001
    )
    table = calibrated.markdown({"runs": {"made": found}})
    assert table.splitlines()[3] == "| policy | dev | test |" and table.splitlines()[6].startswith("| entropy | ")


def test_a_promise_is_measured_on_speakers_that_it_was_not_calibrated_on(tmp_path):
    write_set(tmp_path, "test", many(4000, speakers=200))
    (one,) = calibrated.promised(tmp_path, test_set="test", scores=["entropy"], points=4.0, delta=0.1).values()
    assert one["granted"] and one["others"]["macs_share"] < 1 and one["others"]["increase"] <= 4
    assert one["here"] != one["others"]
    write_set(tmp_path, "few", many(400, speakers=30))
    refused = calibrated.promised(tmp_path, test_set="few", scores=["entropy"], points=4.0, delta=0.1)
    table = calibrated.promise_markdown({"promises": {"made": refused}})
    assert table.splitlines()[-1].startswith(
        "| made | entropy | refused: a promise with delta 0.1 needs at least 22 sp"
    )


def test_every_second_german_text_is_decomposed(tmp_path):
    texts = ["t\u00fcr", "k\u00fcche", "\u00f6ffne", "w\u00e4hle"]
    rows = [Utterance(text, tmp_path / "a.wav", 1.0, text) for text in texts]
    write_manifest(tmp_path / "train.jsonl", rows)
    languages.decompose_half(tmp_path / "train.jsonl")
    found = [json.loads(line)["text"] for line in (tmp_path / "train.jsonl").read_text("utf-8").splitlines()]
    assert found == [texts[0], "ku\u0308che", texts[2], "wa\u0308hle"]
    assert [one.text for one in read_manifest(tmp_path / "train.jsonl")] == texts
