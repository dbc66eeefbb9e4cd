"""Releases: `changelog` collects changes/ into CHANGELOG.md; `release` builds, checks and tags. See RELEASING.md."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

HEAD = "# Changelog\n"

HEADING = re.compile(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", re.MULTILINE)


def version() -> str:
    """Return the version of the source."""
    text = (ROOT / "aipcore" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found is not None
    return found[1]


def fragments() -> list[Path]:
    """Return the files in changes/ that belong to the next release."""
    return sorted(path for path in (ROOT / "changes").glob("*.md") if path.name != "README.md")


def changelog(today: str) -> None:
    """Move the fragments into a new section of CHANGELOG.md."""
    file = ROOT / "CHANGELOG.md"
    old = file.read_text(encoding="utf-8") if file.exists() else HEAD
    if version() in HEADING.findall(old):
        raise SystemExit(f"CHANGELOG.md has version {version()} already. Raise __version__ in aipcore/__init__.py.")
    if not fragments():
        raise SystemExit("changes/ has no fragment, so there is nothing to release.")
    lines = [f"* {' '.join(path.read_text(encoding='utf-8').split())}" for path in fragments()]
    section = f"\n## {version()} ({today})\n\n" + "\n".join(lines) + "\n"
    file.write_text(HEAD + section + old.removeprefix(HEAD), encoding="utf-8")
    for path in fragments():
        path.unlink()
    print(f"CHANGELOG.md has the section {version()}. Read it, shorten it, and commit.")


def refusal() -> str:
    """Return the reason not to release the current commit, as a sentence, or an empty string."""
    if git("status", "--porcelain"):
        return "The working tree has changes. Commit or remove them: the release is built from the commit."
    if fragments():
        return (
            f"changes/ has {len(fragments())} fragments that are not in CHANGELOG.md. Run `make changelog`, and commit."
        )
    file = ROOT / "CHANGELOG.md"
    found = HEADING.search(file.read_text(encoding="utf-8")) if file.exists() else None
    newest = found[1] if found else "no version"
    if newest != version():
        return f"The source has version {version()}, but the newest in CHANGELOG.md is {newest}. Make them equal."
    if git("tag", "--list", f"v{version()}"):
        return f"The tag v{version()} exists. Raise __version__ in aipcore/__init__.py."
    return ""


def git(*words: str) -> str:
    """Return the output of a git command in the repository."""
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def run(*words: str | Path, cwd: Path) -> None:
    """Run a program, and print its command line."""
    print(f"$ {' '.join(map(str, words))}", flush=True)
    if code := subprocess.run(words, cwd=cwd, check=False).returncode:
        raise SystemExit(f"{words[0]} exited with {code}. Nothing was tagged.")


def build(dist: Path) -> list[Path]:
    """Build the source distribution from the commit, and the wheel from it, and return both."""
    with tempfile.TemporaryDirectory() as folder:
        archive, source = Path(folder) / "source.tar", Path(folder) / "source"
        git("archive", "--output", str(archive), "HEAD")
        with tarfile.open(archive) as file:
            file.extractall(source, filter="data")
        run(sys.executable, "-m", "build", "--outdir", dist, source, cwd=ROOT)
    wheel, sdist = (next(dist.glob(f"aipcore-{version()}{end}")) for end in ("*.whl", ".tar.gz"))
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=ROOT)
    return [wheel, sdist]


def missing(wheel: Path, sdist: Path) -> list[str]:
    """Return the tracked files that are not in the distributions."""
    tracked = git("ls-files").splitlines()
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    absent = [f"{sdist.name}: {name}" for name in tracked if name not in names]
    names = set(zipfile.ZipFile(wheel).namelist())
    packaged = [
        re.sub("^plugins/", "aip_plugins/", name) for name in tracked if name.startswith(("aipcore/", "plugins/"))
    ]
    return absent + [f"{wheel.name}: {name}" for name in packaged if name not in names]


def install(file: Path) -> None:
    """Install a distribution into a fresh environment, and run README's first command there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / "bin"
        pip = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, "--constraint", ROOT / "constraints.txt", file, cwd=Path(folder))
        run(programs / "aip", "train", "tutorial", "--trainer.epochs", "2", cwd=Path(folder))


def release() -> None:
    """Build, check and tag the current commit."""
    if reason := refusal():
        raise SystemExit(reason)
    distributions = build(ROOT / "dist")
    if absent := missing(*distributions):
        raise SystemExit("Files are missing. Nothing was tagged.\n" + "\n".join(absent))
    for each in distributions:
        install(each)
    git("tag", "--annotate", f"v{version()}", "--message", f"aip {version()}")
    files = " ".join(os.path.relpath(each) for each in distributions)
    print(
        f"\nTagged v{version()}. The next steps are by hand, and the second cannot be undone:\n"
        f"  git push origin v{version()}\n"
        f"  {os.path.relpath(sys.executable)} -m twine upload {files}"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["changelog"]:
            changelog(datetime.date.today().isoformat())
        case ["release"]:
            release()
        case _:
            raise SystemExit("Use `make changelog` or `make release`.")
