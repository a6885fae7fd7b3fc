"""Every document, as a reader meets it: links lead somewhere, lines fit, one word means one thing.

In: the Markdown files of the repository. No network: what is on the web is not looked at.
"""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDTH = 100


def _documents() -> list[Path]:
    known = (
        "*.md",
        "docs/**/*.md",
        "charts/**/*.md",
        "entrypoint/*.md",
        "deploy/**/*.md",
        "requirements/*.md",
    )
    return sorted({path for pattern in known for path in ROOT.glob(pattern)})


DOCUMENTS = _documents()
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!\\)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+(?:\([^()]*\))?)\)", re.DOTALL)

_HTML = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"", re.DOTALL)


@cache
def prose(path: Path) -> str:
    """Give a document without what programs said and what is typed in fences."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


@cache
def anchors(path: Path) -> frozenset[str]:
    """Give the anchors of a document's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose(path), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        again = sum(1 for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other))
        found.append(f"{slug}-{again}" if again else slug)
    return frozenset(found)


def broken(path: Path) -> list[str]:
    """Give the links of a document that lead nowhere."""
    found = []
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    for link in (*_LINK.findall(text), *_HTML.findall(text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists():
            found.append(f"{link}: there is no {file}")
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target)):
            found.append(f"{link}: {target.name} has no heading #{anchor}")
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_links_lead_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n## Two `x`: y\n## One\n[a](#one) [b](#one-1) [c](page.md#two-x-y)\n"
        "[no](gone.md) [no](#three) ![no](gone.png)\n"
        '<img width=1 src="gone.jpg"> [web](https://example.com/#x)\n'
        "```\n[no](typed.md)\n```\n",
        encoding="utf-8",
    )
    assert [said.partition(":")[0] for said in broken(page)] == [
        *("gone.md", "#three", "gone.png", "gone.jpg"),
    ]


def test_pages_that_programs_name_are_there() -> None:
    """Messages, alerts and docstrings send people to a page of docs/, some to a heading of it."""
    rooms = ("webhook", "certs", "charts", "entrypoint", "tests", "deploy")
    files = [path for room in rooms for path in (ROOT / room).rglob("*")]
    kinds = {".py", ".yaml", ".tpl", ".txt", ".toml", ".c", ".h", ".html", ".json"}
    named = {
        found
        for path in files
        if path.suffix in kinds and path.is_file()
        for found in re.findall(
            r"docs/([\w-]+\.md)(?:#([\w-]+))?", path.read_text(errors="replace")
        )
    }
    assert len(named) > 10
    for name, anchor in sorted(named):
        page = ROOT / "docs" / name
        assert page.exists(), name
        assert not anchor or anchor in anchors(page), f"{name}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"]({name}" not in index} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=NAMES)
def test_lines_fit(path: Path) -> None:
    """Tables, what programs say, and a link that is long by itself may be wider."""
    wide = [
        line
        for line in prose(path).splitlines()
        if len(line) > WIDTH and not line.startswith(("|", "    ", "<!--", "![")) and " " in line
    ]
    assert wide == []


# --- one word for one thing

GLOSSARY = ROOT / "docs" / "glossary.md"


def avoided() -> dict[str, str]:
    """Give the words that the glossary's last column names, and what is said instead."""
    rows = re.findall(
        r"^\| \*\*(.+?)\*\* \|.*\| ([^|]*?) *\|$",
        GLOSSARY.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return {
        word.strip(): instead
        for instead, words in rows
        for word in words.split(",")
        if word.strip()
    }


def said(text: str, word: str) -> list[str]:
    """Give the lines that use a word outside of code."""
    plain = re.sub(r"`[^`\n]*`|\]\([^)]*\)|<!--.*?-->", "", text)
    return [
        line
        for line in plain.splitlines()
        if re.search(rf"(?<![\w/.-]){re.escape(word)}(?![\w/-]|\.\w)", line)
        and not line.startswith("    ")
    ]


def test_the_glossary_names_words_to_avoid() -> None:
    assert len(avoided()) > 15
    assert said("the drain's cap, `cap`", "cap")
    assert not said("the `cap` of capacity", "cap")


@pytest.mark.parametrize(
    "path", [p for p in DOCUMENTS if p != GLOSSARY and "CHANGELOG" not in p.name], ids=str
)
def test_one_word_for_one_thing(path: Path) -> None:
    found = {
        f"{word}: say {instead}": lines
        for word, instead in avoided().items()
        if (lines := said(prose(path), word))
    }
    assert found == {}


def test_no_document_is_forgotten() -> None:
    """What git knows as Markdown is looked at."""
    if not (ROOT / ".git").exists():
        return
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert {name for name in listed if not name.startswith("tests/")} <= set(NAMES)
