# SPDX-License-Identifier: Apache-2.0
"""The explorer page: its data, and the page itself in a browser."""

import base64
import gzip
import json
import re
import shutil

import numpy as np
import pytest
import soundfile
from playwright.sync_api import sync_playwright
from unit.cases import many

from ee_runtime.calibration.file import write_calibration
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.evaluation.page.run_page import write_run_page
from speechbrain_ee.evaluation.tables import write_exits
from speechbrain_ee.replay.utterances import write_utterances
from speechbrain_ee.text.metrics import counted_in_characters

NASTY = "</script><b>cat</b> &amp; <!--SCRIPT-->"
SAID = "the cat sat on the mat and saw a hat"


@pytest.fixture
def run(tmp_path):
    """A run with two evaluated sets; one utterance has audio, one a nasty text."""
    for name, seed in (("dev", 0), ("test", 1)):
        utterances = many(120, seed=seed, speakers=12)
        for number, utterance in enumerate(utterances):
            utterance["reference"] = SAID
            utterance["audio_filepath"] = f"{number}.wav"
            for exit in utterance["exits"]:
                wrong = exit["errors"]["S"]
                exit["hypothesis"] = " ".join(["x"] * min(10, wrong) + SAID.split()[min(10, wrong) :])
                exit["word_confidence"] = [0.5] * min(10, wrong) + [0.9] * (10 - min(10, wrong))
                if name == "dev":  # of a model with attention decoders
                    exit["ctc"] = {"hypothesis": "", "errors": {"S": 0, "D": 10, "I": 0}}
        if name == "test":
            utterances[7]["exits"][0]["hypothesis"] = NASTY
            utterances[7]["exits"][0]["word_confidence"] = [0.5] * len(NASTY.split())
            utterances[3]["audio_filepath"] = str(tmp_path / "audio" / "a b.wav")
            utterances[3]["offset"] = 0.025  # a part of a recording
            (tmp_path / "audio").mkdir()
            soundfile.write(tmp_path / "audio" / "a b.wav", np.zeros(1600), 16000)
        folder = tmp_path / "run" / "eval" / name
        folder.mkdir(parents=True)
        write_utterances(folder / "utterances.jsonl", utterances)
        write_exits(folder, utterances, test_set=name, decoding="greedy", params=None)
    return tmp_path / "run"


def page_data(path):
    packed = re.search(r'<script id="data" type="application/gzip">(.*?)</script>', path.read_text("utf-8")).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_page_has_every_set_and_works_before_calibration(run):
    write_run_page(run, run / "report.html")
    data = page_data(run / "report.html")
    assert list(data) == ["dev", "test"]
    assert data["test"]["calibrated"] is None
    for name, found in data.items():
        policies = json.loads((run / "eval" / name / "policies.json").read_text())
        assert {label: [strip(one) for one in entries] for label, entries in found["policies"].items()} == policies
        assert set(policies) == {"entropy", "confidence", "agreement", "patience"}
        for entries in found["policies"].values():
            assert [one for one in entries if not one["wer_ci95"][0] <= one["wer"] <= one["wer_ci95"][1]] == []
            last = [one["wer_ci95"] for one in entries if one["histogram"]["6"] == 120]  # full depth
            assert last[0] == pytest.approx(found["exits"]["exits"][-1]["wer_ci95"], abs=0.3)  # of other draws
    assert [one["a"] for one in data["test"]["utterances"] if "a" in one] == ["../audio/a b.wav"]
    assert [one["t"] for one in data["test"]["utterances"] if "t" in one] == [[0.025, 2.025]]


def test_a_page_in_a_new_folder_finds_the_recordings(run, tmp_path):
    write_run_page(run, tmp_path / "new" / "folder" / "page.html")
    data = page_data(tmp_path / "new" / "folder" / "page.html")
    assert [one["a"] for one in data["test"]["utterances"] if "a" in one] == ["../../audio/a b.wav"]


def strip(entry):
    return {name: value for name, value in entry.items() if name != "wer_ci95"}


def test_where_the_page_says_that_utterances_stop_is_the_histogram(run):
    write_run_page(run, run / "report.html")
    found = page_data(run / "report.html")["test"]
    for label, entries in found["policies"].items():
        for place in range(0, len(entries), 7):
            stops = [[first is not None and first <= place for first in row] for row in found["stops"][label]]
            taken = [[*row, True].index(True) for row in stops]
            assert [taken.count(index) for index in range(3)] == list(entries[place]["histogram"].values()), label


@pytest.mark.parametrize("score", ["learned", "entropy"])
def test_the_calibrated_policy_is_shown(run, score):
    write_calibration(run, calibrate(many(400, seed=2), score=score, target={"promise": 2.0}))
    write_run_page(run, run / "report.html")
    found = page_data(run / "report.html")["test"]
    assert found["calibrated"]["label"] == score
    assert "WER is at most 2.0 points above" in found["calibrated"]["promise"]
    assert score in found["policies"] and score in json.loads((run / "eval" / "test" / "policies.json").read_text())
    assert f"Calibrated: {score}, WER" in (run / "report.md").read_text()


def test_the_markdown_has_the_tables_and_pictures(run):
    write_run_page(run, run / "report.html")
    text = (run / "report.md").read_text("utf-8")
    assert text.count("| exit | layer |") == 2
    assert "![WER against cost](eval/test/exits.png)" in text


def test_policies_at_equal_cost_lie_between_the_exits_and_the_oracle(run):
    write_run_page(run, run / "report.html")
    found = page_data(run / "report.html")["test"]
    wers = [one["wer"] for one in found["exits"]["exits"]]
    best = found["exits"]["oracle"]["wer"]  # of each utterance by itself: no mixture of exits has less
    for name, row in found["at_cost"].items():
        assert len(row) == 5 and None not in row[2:], name
        assert [wer for wer in row if wer is not None and not best <= wer <= max(wers)] == [], name
    # exits cost 1/3, 2/3 and all: at 0.8, 0.4 of the way from the second to the last
    assert found["at_cost"]["static"][3] == pytest.approx(0.6 * wers[1] + 0.4 * wers[2])
    assert found["at_cost"]["entropy"][1] < found["at_cost"]["static"][1]
    assert "| entropy | " in (run / "report.md").read_text()


def test_a_run_that_was_not_evaluated_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no eval/<test set>/exits.json: evaluate a manifest first"):
        write_run_page(tmp_path, tmp_path / "report.html")


# --- in a browser ---------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(run, browser):
    write_calibration(run, calibrate(many(400, seed=2), score="entropy", target={"promise": 2.0}))
    write_run_page(run, run / "report.html")
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints, requests = [], []
    opened.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto((run / "report.html").as_uri())
    opened.wait_for_selector("#utterances tbody tr")
    yield opened
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def move_slider(page, index):
    page.eval_on_selector(
        "#threshold", "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", index
    )


@pytest.mark.parametrize("policy", ["entropy", "confidence", "patience"])
def test_the_slider_shows_the_numbers_of_policies_json(page, run, policy):
    entries = json.loads((run / "eval" / "test" / "policies.json").read_text())[policy]
    exits = json.loads((run / "eval" / "test" / "exits.json").read_text())["exits"]
    page.select_option("#policy", policy)
    for index in (0, len(entries) // 3, len(entries) - 1):
        move_slider(page, index)
        entry = entries[index]
        assert page.inner_text("#rate") == f"{entry['wer']:.2f} %"
        assert page.inner_text("#mean-layer") == f"{entry['mean_layer']:.2f}"
        assert page.inner_text("#cost") == f"{100 * entry['macs_per_s'] / exits[-1]['macs_per_s']:.1f} %"
        stops = [row.inner_text() for row in page.query_selector_all("#exits tbody td:last-child")]
        assert stops == [str(count) for count in entry["histogram"].values()]
        point = page.evaluate("document.getElementById('curve').data.at(-1).y[0]")
        assert point == pytest.approx(entry["wer"])
        bars = page.evaluate("Array.from(document.getElementById('histogram').data[0].y)")
        assert bars == list(entry["histogram"].values())


def test_the_calibrated_threshold_is_where_the_slider_starts(page):
    assert "Calibrated: entropy" in page.inner_text("#promise")
    assert page.input_value("#policy") == "entropy"
    calibrated = page.evaluate("Number(document.getElementById('threshold-value').textContent)")
    assert 0 < calibrated < 1


def test_utterances_are_searched_sorted_and_marked(page):
    page.fill("#search", "cat</b>")
    assert page.inner_text("#found") == "1 of 120 utterances"
    page.select_option("#shown-exit", "0")
    assert "<b>cat</b>" in page.inner_text("#utterances tbody td.text")
    assert page.query_selector("#utterances tbody del") and page.query_selector("#utterances tbody ins")
    page.fill("#search", "")
    page.click("#utterances th button[data-key=errors]")
    page.click("#utterances th button[data-key=errors]")
    assert page.get_attribute("#utterances th:nth-child(5)", "aria-sort") == "descending"
    taken = [int(one.inner_text()) for one in page.query_selector_all("#utterances .taken")]
    assert taken == sorted(taken, reverse=True) and len(taken) == 50
    assert page.is_disabled("#before")
    page.click("#after")
    assert page.inner_text("#page") == "page 2 of 3"


def test_audio_at_hand_can_be_played(page):
    page.fill("#search", "s3")
    sources = page.eval_on_selector_all("audio", "found => found.map((one) => one.src)")
    assert len(sources) == 1 and sources[0].endswith("/audio/a%20b.wav#t=0.025,2.025")
    page.eval_on_selector("audio", "async (one) => { one.load(); await one.play(); }")


def test_another_test_set_and_the_reliability_of_another_exit(page):
    page.select_option("#test-set", "dev")
    assert page.inner_text("#facts").startswith("120 utterances")
    page.select_option("#reliability-of", "2")
    assert "expected calibration error of words" in page.inner_text("#ece")
    assert page.query_selector_all("#bins tbody tr")


def test_ctc_stands_beside_attention_where_both_are(page):
    shown = {}
    for name in ("dev", "test"):
        page.select_option("#test-set", name)
        cells = page.locator("#exits .ctc")
        shown[name] = [text for text in cells.all_inner_texts() if cells.first.is_visible()]
    assert shown["dev"] == ["CTC WER %", *["100.00"] * (len(shown["dev"]) - 1)] and len(shown["dev"]) > 2
    assert shown["test"] == []


def test_a_phone_shows_it_without_scrolling_sideways_and_controls_have_labels(page):
    page.set_viewport_size({"width": 360, "height": 700})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    unlabelled = page.eval_on_selector_all(
        "main select, main input, header select",
        "found => found.filter((one) => !one.labels.length).map((one) => one.id)",
    )
    assert unlabelled == []
    assert page.get_attribute("html", "lang") == "en"
    assert page.eval_on_selector_all("h1", "found => found.map((one) => one.textContent)") == [
        "Early exits of " + page.title()[15:]
    ]


def test_characters_are_marked_and_arabic_runs_from_right_to_left(tmp_path, browser):
    texts = [("مرحبا كتاب", "مرحبا كتب"), ("你好天气", "你天汽")]
    exits = [{"layer": layer, "errors": {"S": 1, "D": 0, "I": 0}, "scores": {"entropy": 0.4}} for layer in (2, 4)]
    rows = [
        {
            **{"id": f"u{number}", "audio_filepath": "x.wav", "speaker": None, "duration": 1.0, "num_words": 2},
            **{"reference": said, "exits": [exits[0] | {"hypothesis": heard}, exits[1] | {"hypothesis": said}]},
        }
        for number, (said, heard) in enumerate(texts)
    ]
    folder, lines = tmp_path / "run" / "eval" / "test", counted_in_characters(rows)
    folder.mkdir(parents=True)
    write_utterances(folder / "utterances.jsonl", lines)
    write_exits(folder, lines, test_set="test", decoding="greedy", params=None)
    write_run_page(tmp_path / "run", tmp_path / "run" / "report.html")
    opened = browser.new_page()
    opened.goto((tmp_path / "run" / "report.html").as_uri())
    opened.wait_for_selector("#utterances tbody tr")
    opened.select_option("#shown-exit", "0")
    blocks = opened.query_selector_all("#utterances td.text > div[dir=auto]")
    assert [one.evaluate("block => getComputedStyle(block).direction") for one in blocks] == ["rtl", "ltr"]
    marks = [one.evaluate("block => [...block.children].map((mark) => mark.lastChild.textContent)") for one in blocks]
    assert marks == [["ا"], ["好", "气", "汽"]]
    assert opened.inner_text("#outcome dt") == "CER" and "2 utterances, 14 characters" in opened.inner_text("#facts")
