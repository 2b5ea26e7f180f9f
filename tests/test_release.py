# SPDX-License-Identifier: Apache-2.0
"""What a release needs: one version, complete packages, and workflows; `make release-check` builds and installs."""

import re
import shutil
import subprocess
import zipfile
from fnmatch import fnmatch

import pytest
import release
import yaml
from commands import ROOT

WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in ROOT.glob(".github/workflows/*.yml")}
STEPS = [
    (name, step) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"].values() for step in job["steps"]
]


def test_both_distributions_have_one_version():
    release.check_versions(None)
    release.check_versions("")


@pytest.mark.parametrize(
    ("versions", "tag", "changes", "message"),
    [
        (("0.2.0", "0.1.0"), None, "", "the versions differ"),
        (("0.2.0", "0.2.0"), "v0.1.0", "", "the tag is v0.1.0, but the version is 0.2.0: tag v0.2.0"),
        (("0.2.0", "0.2.0"), "0.2.0", "", "the tag is 0.2.0"),
        (("0.2.0", "0.2.0"), "v0.2.0", "## Unreleased\n", 'has no section "## 0.2.0"'),
    ],
)
def test_a_wrong_tag_or_version_is_refused(tmp_path, monkeypatch, versions, tag, changes, message):
    for package, version in zip(("a", "b"), versions, strict=True):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (tmp_path / "CHANGELOG.md").write_text(changes)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(
        release, "PACKAGES", {"speechbrain_ee": tmp_path / "a", "speechbrain_ee_runtime": tmp_path / "b"}
    )
    with pytest.raises(SystemExit, match=re.escape(message)):
        release.check_versions(tag)


def test_a_wheel_that_lacks_a_file_or_has_one_too_many_is_refused(tmp_path):
    name = "speechbrain_ee_runtime"
    info = f"{name}-{release.version_of(name)}.dist-info"
    metadata = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
    files = sorted(release.package_files(name)) + [f"{info}/{file}" for file in metadata]

    def wheel(files):
        with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
            for file in files:
                archive.writestr(file, "")
        return tmp_path / "x.whl"

    release.check_wheel(name, wheel(files))
    with pytest.raises(SystemExit, match="missing: ee_runtime/__init__.py$"):
        release.check_wheel(name, wheel(set(files) - {"ee_runtime/__init__.py"}))
    with pytest.raises(SystemExit, match="extra: results/log.txt$"):
        release.check_wheel(name, wheel([*files, "results/log.txt"]))


def test_the_licence_is_in_both_distributions():
    assert (ROOT / "runtime/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_runtime_lists_each_of_its_packages():
    text = (ROOT / "runtime/pyproject.toml").read_text("utf-8")
    listed = re.findall(r'"(ee_runtime[\w.]*)",', re.search(r"packages = \[(.*?)\]", text, re.DOTALL)[1])
    folders = (path.parent for path in ROOT.glob("runtime/ee_runtime/**/__init__.py"))
    assert sorted(listed) == sorted(".".join(path.relative_to(ROOT / "runtime").parts) for path in folders)


def test_files_that_are_not_python_are_package_data():
    listed = re.search(r"package_data=\{(.*?)\}", (ROOT / "setup.py").read_text("utf-8"), re.DOTALL)[1]
    data = {
        package: re.findall(r'"([^"]+)"', names)
        for package, names in re.findall(r'"([\w.]+)": \[(.*?)\]', listed, re.DOTALL)
    }
    others = [file for file in release.package_files("speechbrain_ee") if not file.endswith(".py")]
    assert len(others) >= 3
    for file in others:
        package, _, name = file.rpartition("/")
        assert any(fnmatch(name, pattern) for pattern in data.get(package.replace("/", "."), [])), f"setup.py: {file}"


def make_version(folder, new):
    return subprocess.run(["make", "version", f"NEW={new}"], cwd=folder, capture_output=True, text=True, check=False)


def test_make_version_changes_both(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for package in ("speechbrain_ee", "runtime/ee_runtime"):
        (tmp_path / package).mkdir(parents=True)
        shutil.copy(ROOT / package / "__init__.py", tmp_path / package)
    assert make_version(tmp_path, "0.2.0rc1").returncode == 0
    for package in ("speechbrain_ee", "runtime/ee_runtime"):
        assert '\n__version__ = "0.2.0rc1"\n' in (tmp_path / package / "__init__.py").read_text("utf-8")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["Makefile"] + ["__init__.py"] * 2


@pytest.mark.parametrize("new", ["", "v0.2.0", "0.2", "0.2.0; echo"])
def test_make_version_refuses_what_is_no_version(new):
    done = make_version(ROOT, new)
    assert done.returncode == 2
    assert "give a version, as in make version NEW=0.2.0" in done.stdout


def test_actions_are_pinned_by_version():
    used = [step["uses"] for _, step in STEPS if "uses" in step]
    assert len(used) >= 8
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+", one)] == []


def test_the_targets_that_workflows_make_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    made = [target for _, step in STEPS for target in re.findall(r"^make ([\w-]+)", step.get("run", ""))]
    assert {"lint", "docs", "test", "release-check"} <= set(made) <= set(targets)


def test_only_publishing_may_write():
    write = {
        (name, job)
        for name, workflow in WORKFLOWS.items()
        for job, content in workflow["jobs"].items()
        if "write" in content.get("permissions", {}).values()
    }
    assert write == {("pages.yml", "deploy"), ("release.yml", "publish")}
    assert {str(workflow["permissions"]) for workflow in WORKFLOWS.values()} == {"{'contents': 'read'}"}


def test_each_supported_python_is_tested():
    tested = WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    classified = re.findall(r"Python :: (3\.\d+)", (ROOT / "runtime/pyproject.toml").read_text("utf-8"))
    minors = re.search(r"for minor in \(([\d, ]+)\)", (ROOT / "setup.py").read_text("utf-8"))[1].split(", ")
    assert tested == classified == [f"3.{minor}" for minor in minors]
