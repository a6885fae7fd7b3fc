"""`kubectl podgrace`: the names that kubectl looks for on the PATH, and the manifest for krew."""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from webhook import cli

ROOT = Path(__file__).parents[2]
PLATFORMS = {(os, arch) for os in ("linux", "darwin") for arch in ("amd64", "arm64")}


def test_kubectl_finds_the_plugin_and_its_completion() -> None:
    """By names on the PATH: kubectl-NAME and kubectl_complete-NAME."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"podgrace", "kubectl-podgrace", "kubectl_complete-podgrace"}
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert callable(getattr(import_module(module), function))


def test_kubectl_completes_with_what_we_print(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cobra's protocol: a word a line, then : and what the shell should do besides."""
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-podgrace", "explain", "-o", "t"])
    assert cli.complete() == 0
    assert capsys.readouterr().out == "table\n:4\n"


def test_usage_names_the_command_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/bin/kubectl-podgrace"])
    help_ = cli.parser("check").format_help()
    assert help_.startswith("usage: kubectl podgrace ")


@pytest.fixture
def fill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fill", ROOT / "deploy" / "krew" / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    for os, arch in PLATFORMS:
        with tarfile.open(tmp_path / f"kubectl-podgrace_{os}_{arch}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "program", "./kubectl-podgrace")
    return tmp_path


def test_the_manifest_is_one_that_krew_accepts(fill: ModuleType, archives: Path) -> None:
    """What krew's own validation asks of a manifest (its pkg/index/validation)."""
    text = fill.fill("1.2.3", "https://example.test/podgrace", "https://example.test/dl/", archives)
    assert "@" not in text
    manifest = yaml.safe_load(text)
    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert manifest["kind"] == "Plugin" and manifest["metadata"] == {"name": "podgrace"}
    spec = manifest["spec"]
    assert spec["version"] == "v1.2.3"
    assert 0 < len(spec["shortDescription"]) <= 50 and "\n" not in spec["shortDescription"]
    assert not spec["shortDescription"].endswith(".")
    found = set()
    for platform in spec["platforms"]:
        labels = platform["selector"]["matchLabels"]
        found.add((labels["os"], labels["arch"]))
        name = f"kubectl-podgrace_{labels['os']}_{labels['arch']}.tar.gz"
        assert platform["uri"] == f"https://example.test/dl/v1.2.3/{name}"
        assert platform["sha256"] == hashlib.sha256((archives / name).read_bytes()).hexdigest()
        assert re.fullmatch(r"[a-f0-9]{64}", platform["sha256"])
        assert platform["bin"] == "kubectl-podgrace"
    assert found == PLATFORMS and len(spec["platforms"]) == len(PLATFORMS)


def test_nothing_is_named_that_is_not_there(fill: ModuleType, archives: Path) -> None:
    (archives / "kubectl-podgrace_linux_arm64.tar.gz").unlink()
    with pytest.raises(OSError, match="linux_arm64"):
        fill.fill("1.2.3", "https://example.test", "https://example.test", archives)
    with pytest.raises(ValueError, match="without a v"):
        fill.fill("v1.2.3", "https://example.test", "https://example.test", archives)


def test_an_archive_without_the_program(archives: Path) -> None:
    with tarfile.open(archives / "kubectl-podgrace_linux_amd64.tar.gz", "w:gz") as archive:
        archive.add(archives / "program", "other")
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "deploy" / "krew" / "fill.py",
            "1.2.3",
            "https://example.test",
            "https://example.test",
            archives,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0 and "holds no kubectl-podgrace" in done.stderr
