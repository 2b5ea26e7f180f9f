# SPDX-License-Identifier: Apache-2.0
"""Run exports on an emulated CPU, and compare the results with those of this machine. Measures no time.

python benchmarks/emulated_cpu.py EXPORT [EXPORT ...] --files WAV [WAV ...] --work FOLDER [--cpu cortex-a72]
    [--qemu qemu-aarch64-static] [--name aarch64-cortex-a72]

Starts ``python -m ee_runtime.cli --json`` once on this machine and once in the emulator, for every export. ``--cpu`` is
a CPU of the lists below; onnxruntime chooses its kernels by its features. Prints and writes to results/<name>.json: the
number of equal texts and exits, and the largest difference of the policy's score.

Needs Linux on x86-64 and the Debian package qemu-user-static. For a CPU of Arm, it also needs apt-get and dpkg of
Debian or Ubuntu: an arm64 Python of the configured Debian mirrors and aarch64 wheels of the runtime's dependencies are
unpacked into --work, without installing anything.

The emulator of Debian 12 (7.2) lacks /proc/cpuinfo of Arm, without which onnxruntime crashes when it is imported, so
the script writes one. Its ``-cpu max`` computes wrong int8 products in its matrix extension; give a real CPU.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
RUNTIME = Path(__file__).parents[1] / "runtime"
PYTHON = "python3.11"
# Of the packages that Python needs on an empty system: those with its libraries.
LIBRARIES = ("lib", "zlib1g", PYTHON)
WHEELS = ("numpy", "onnxruntime", "soundfile", "soxr")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
FEATURES = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
# Name in qemu: part number of Arm, and features of later versions of the architecture.
ARM_CPUS = {
    "cortex-a53": ("0xd03", ""),  # Raspberry Pi 3
    "cortex-a72": ("0xd08", ""),  # Raspberry Pi 4
    "cortex-a76": ("0xd0b", " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"),  # Raspberry Pi 5
}
X86_CPUS = ("Haswell-noTSX",)  # AVX2 without VNNI


def call(*command: str, **options) -> str:
    """Run a program and return its output; its error is ours."""
    return subprocess.run(
        [str(one) for one in command], check=True, text=True, stdout=subprocess.PIPE, **options
    ).stdout


def unpack_python(root: Path, work: Path) -> None:
    """Unpack an arm64 Python and its libraries from Debian packages."""
    apt = work / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    lines = ['APT::Architecture "arm64";', 'APT::Architectures { "arm64"; };', 'Dir::State::status "/dev/null";']
    lines += [f'Dir::State "{apt}/state";', f'Dir::Cache "{apt}/cache";', 'APT::Sandbox::User "";']
    (apt / "apt.conf").write_text("\n".join(lines) + "\n", "utf-8")
    options = {"env": os.environ | {"APT_CONFIG": str(apt / "apt.conf")}, "cwd": apt / "packages"}
    call("apt-get", "update", **options)
    plan = call("apt-get", "--simulate", "--no-install-recommends", "install", PYTHON, "libstdc++6", **options)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    call("apt-get", "download", *(name for name in names if name.startswith(LIBRARIES)), **options)
    for package in sorted((apt / "packages").glob("*.deb")):
        call("dpkg-deb", "--extract", package, root)


def install_wheels(folder: Path) -> None:
    """Install aarch64 wheels of the runtime's dependencies."""
    options = [option for one in PLATFORMS for option in ("--platform", one)]
    options += [option for one in ("cp311", "abi3", "none") for option in ("--abi", one)]
    options += ["--implementation", "cp", "--python-version", "3.11", "--only-binary", ":all:", "--quiet"]
    call(sys.executable, "-m", "pip", "install", "--target", folder, *options, *WHEELS)


def write_cpuinfo(root: Path, cpu: str) -> None:
    """Write /proc/cpuinfo of a CPU."""
    part, more = ARM_CPUS[cpu]
    rows = {"Features": FEATURES + more, "CPU implementer": "0x41", "CPU architecture": "8"}
    rows |= {"CPU variant": "0x0", "CPU part": part, "CPU revision": "3"}
    text = "".join(f"{name}\t: {value}\n" for name, value in rows.items())
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(f"processor\t: 0\n{text}\n", "utf-8")


def transcribe(python: list, path: str, arguments: list) -> list[dict]:
    """Run the runtime; return its JSON objects."""
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [*python, "-m", "ee_runtime.cli", "--threads", "1", "--json", *arguments]
    return [json.loads(line) for line in call(*command, env=environment).splitlines()]


def emulated_python(cpu: str, qemu: str | None, work: Path) -> tuple[list, str]:
    """Return the command of Python in the emulator, and its PYTHONPATH."""
    if cpu in X86_CPUS:
        python = Path(sys.executable).resolve()
        return [qemu or "qemu-x86_64-static", "-cpu", cpu, python], f"{RUNTIME}:{sysconfig.get_path('purelib')}"
    root, wheels = work / "root", work / "wheels"
    if not (root / "usr/bin" / PYTHON).exists():
        unpack_python(root, work)
    if not wheels.exists():
        install_wheels(wheels)
    write_cpuinfo(root, cpu)
    command = [qemu or "qemu-aarch64-static", "-L", root, "-cpu", cpu, root / "usr/bin" / PYTHON]
    return command, f"{wheels}:{RUNTIME}"


def compare(ours: list[dict], theirs: list[dict]) -> dict:
    """Return the figures of one export."""
    pairs = list(zip(ours, theirs, strict=True))
    scores = [abs(a["score"] - b["score"]) for a, b in pairs if a["score"] is not None]
    return {
        "files": len(pairs),
        "same_texts": sum(a["text"] == b["text"] for a, b in pairs),
        "same_exits": sum(a["exit_layer"] == b["exit_layer"] for a, b in pairs),
        "largest_difference_of_score": max(scores, default=None),
    }


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exports", nargs="+", type=Path, help="folders of speechbrain-ee export")
    parser.add_argument("--files", nargs="+", type=Path, required=True, help="recordings")
    parser.add_argument("--work", type=Path, required=True, help="folder for the emulated system; kept")
    parser.add_argument("--cpu", choices=[*ARM_CPUS, *X86_CPUS], default="cortex-a72", help="default: %(default)s")
    parser.add_argument("--qemu", help="the emulator (default: qemu-aarch64-static or qemu-x86_64-static)")
    parser.add_argument("--policy", nargs="*", default=[], help="options of the policy, such as entropy=0.03")
    parser.add_argument("--name", default="emulated_cpu", help="name of the file of results")
    args = parser.parse_args()
    python, path = emulated_python(args.cpu, args.qemu, args.work.resolve())
    figures = {"benchmark": args.name, "cpu": args.cpu, "onnxruntime": version("onnxruntime")}
    figures["emulator"] = call(python[0], "--version").splitlines()[0]
    figures["here"] = platform.machine()
    policy = [word for one in args.policy for word in (f"--{one.split('=')[0]}", one.split("=")[1])]
    for export in args.exports:
        arguments = ["--model", export, *policy, *args.files]
        ours = transcribe([sys.executable], f"{RUNTIME}", arguments)
        theirs = transcribe(python, path, arguments)
        precision = json.loads((export / "export.json").read_text("utf-8"))["precision"]
        figures[precision] = compare(ours, theirs)
    text = json.dumps(figures, indent=2)
    print(text)
    (RESULTS / f"{args.name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
