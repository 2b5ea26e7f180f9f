# SPDX-License-Identifier: Apache-2.0
"""Write a small synthetic corpus in Chinese, Arabic or German, to try training in another language.

python benchmarks/languages.py chinese --out data/chinese [--hours 1] [--dev 800] [--test 400]

Needs the extra ``[synth]``. Like the default corpus, it has sentences of a small grammar, spoken by espeak-ng, some
with noise and reverberation, and some training utterances are a few random words; no sentence and no speaker is in two
of train, dev and test. Chinese has no spaces. Half of the German texts are in NFD, where an umlaut is two code points.
"""

import argparse
import itertools
import json
import multiprocessing
import unicodedata
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import soundfile

from ee_runtime.errors import one_line_errors
from speechbrain_ee.corpora.manifest import Utterance, write_manifest
from speechbrain_ee.corpora.synthetic.corpus import FRAGMENT_SHARE, MEAN_SECONDS, Job, render
from speechbrain_ee.corpora.synthetic.degrade import NOISE_SLOPES, draw_condition
from speechbrain_ee.corpora.synthetic.espeak import SAMPLE_RATE, Espeak, Speaker

VOICES = {"chinese": "cmn", "arabic": "ar", "german": "de"}
WORDS = {
    "chinese": {
        "name": "小明 丽丽 王老师 李医生",
        "colour": "红色 绿色 蓝色 黄色",
        "device": "灯 收音机 空调 电视",
        "room": "厨房 卧室 花园 办公室",
        "digit": "零 一 二 三 四 五 六 七 八 九",
    },
    "arabic": {
        "name": "علي مريم سالم ليلى",
        "colour": "الاحمر الاخضر الازرق الاصفر",
        "device": "المصباح المذياع الباب الستار",
        "room": "المطبخ الحديقة المكتب الغرفة",
        "digit": "صفر واحد اثنان ثلاثة اربعة خمسة ستة سبعة ثمانية تسعة",
    },
    "german": {
        "name": "jürgen käthe björn greta",
        "colour": "grüne rote weiße gelbe",
        "device": "lampe heizung tür kühlbox",
        "room": "küche garage diele höhle",
        "digit": "null eins zwei drei vier fünf sechs sieben acht neun",
    },
}
TEMPLATES = {
    "chinese": (
        "请打开{room}的{device}",
        "{name}请关上{colour}的{device}",
        "把{room}的{device}调到{digit}{digit}",
        "{digit}点{digit}分给{name}打电话",
        "拨打{digit}{digit}{digit}{digit}{digit}",
    ),
    "arabic": (
        "افتح {device} {colour} في {room}",
        "اغلق {device} في {room} الساعة {digit}",
        "اتصل الان يا {name} {digit} {digit} {digit}",
        "من فضلك يا {name} افتح {device} {digit} {digit}",
        "{digit} {digit} {digit} {digit} {digit}",
    ),
    "german": (
        "öffne die {colour} {device} in der {room}",
        "{name} schließe bitte die {colour} {device}",
        "stell die {device} in der {room} auf {digit} {digit}",
        "ruf {name} um {digit} {digit} {digit} an",
        "wähle {digit} {digit} {digit} {digit} {digit}",
    ),
}
SPEAKERS = {"train": 60, "dev": 40, "test": 40}
VARIANTS = "m1 m2 m3 m4 m5 f1 f2 f3 f4 f5".split()


def sentences(language: str, rng: np.random.Generator) -> list[str]:
    """Return all sentences of the grammar in random order; each template has about the same share of any part."""
    blocks = []
    for template in TEMPLATES[language]:
        slots = [part.partition("}") for part in template.split("{")]
        choices = [WORDS[language][name].split() if closed else [""] for name, closed, _ in slots]
        fixed = [rest if closed else name for name, closed, rest in slots]
        every = [
            "".join(word + rest for word, rest in zip(words, fixed, strict=True))
            for words in itertools.product(*choices)
        ]
        blocks.append([every[i] for i in rng.permutation(len(every))])
    rounds = itertools.zip_longest(*blocks)
    return [sentence for each in rounds for sentence in each if sentence is not None]


def draw_fragments(language: str, number: int, rng: np.random.Generator) -> list[str]:
    """Draw utterances of one to three random words, so that a model cannot learn the sentences by heart."""
    words = [word for group in WORDS[language].values() for word in group.split()]
    space = "" if language == "chinese" else " "
    return [space.join(rng.choice(words, size=size)) for size in rng.integers(1, 4, size=number)]


def plan(language: str, sizes: dict[str, int], seed: int) -> list[Job]:
    """Draw texts, speakers and conditions.

    Raises
    ------
    ValueError
        If the grammar has fewer sentences.
    """
    rng = np.random.default_rng(seed)
    texts, total = sentences(language, rng), sum(sizes.values())
    if total > len(texts):
        raise ValueError(f"{total} utterances are more than the {len(texts)} sentences of the grammar: give fewer")
    texts = [texts[i] for i in rng.permutation(total)]
    fragments = draw_fragments(language, round(FRAGMENT_SHARE * sizes["train"]), rng)
    pitches = iter(rng.permutation(np.arange(20, 81)).tolist() * 3)  # with the variant, unique for each speaker
    jobs = []
    for split, number in sizes.items():
        speakers = [
            Speaker(f"{VOICES[language]}+{VARIANTS[i % len(VARIANTS)]}", next(pitches), int(rng.integers(130, 181)))
            for i in range(SPEAKERS[split])
        ]
        for i in range(number):
            draw = np.random.default_rng([seed, len(jobs)])
            condition = draw_condition(draw)
            while condition.noise not in NOISE_SLOPES:  # babble needs the texts of other utterances
                condition = draw_condition(draw)
            name = f"{language}-{split}-{i:05d}"
            text = fragments.pop() if split == "train" and fragments else texts.pop()
            jobs.append(Job(name, split, text, speakers[i % len(speakers)], condition, (), (seed, len(jobs))))
    return jobs


@lru_cache(maxsize=1)
def _espeak() -> Espeak:
    return Espeak()


def speak(job: Job, out: Path) -> Utterance:
    """Write the recording of one utterance."""
    file = out / "audio" / f"{job.id}.flac"
    samples = render(job, _espeak())
    soundfile.write(file, samples, SAMPLE_RATE)
    return Utterance(job.id, file, len(samples) / SAMPLE_RATE, job.text, job.speaker.name)


def decompose_half(manifest: Path) -> None:
    """Bring every second text of a manifest into NFD; manifests are written in NFC."""
    rows = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    for row in rows[1::2]:
        row["text"] = unicodedata.normalize("NFD", row["text"])
    manifest.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def main() -> None:
    """Write the manifests and recordings of all splits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=VOICES)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--hours", type=float, default=1.0, help="hours of training speech, roughly")
    parser.add_argument("--dev", type=int, default=800, help="utterances of dev")
    parser.add_argument("--test", type=int, default=400, help="utterances of test")
    parser.add_argument("--seed", type=int, default=1234)
    args = parser.parse_args()
    sizes = {"train": round(args.hours * 3600 / MEAN_SECONDS), "dev": args.dev, "test": args.test}
    jobs = plan(args.language, sizes, args.seed)
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        utterances = pool.map(partial(speak, out=args.out.resolve()), jobs, 20)
    for split in sizes:
        mine = [one for one, job in zip(utterances, jobs, strict=True) if job.split == split]
        write_manifest(args.out / f"{split}.jsonl", mine)
        if args.language == "german":
            decompose_half(args.out / f"{split}.jsonl")
        print(f"{args.out}: {split} has {len(mine)} utterances, {sum(one.duration for one in mine) / 3600:.2f} h")


if __name__ == "__main__":
    with one_line_errors("languages.py"):
        main()
