"""Recompute the numbers of the documents from `results/`: `python benchmarks/figures.py [--list]`.

Claims (claims.py) tie numbers of a document to a computation. A claim fails if its text is not in the document, or if a
printed number is not the computed one, rounded as printed. Numbers are counted outside of code, links and formulas.
--list prints each with the files of `results/` that its paragraph or section links to.
"""

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.claims import Claim, Rounded, Value, registry  # noqa: E402

NUMBER = r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:[kM]\b)?"
VERDICT = "better|worse|tied"
TOKEN = re.compile(rf"(?<![\w.,-]){NUMBER}(?!\w|[.,]\d)|\b(?:{VERDICT})\b")
HIDDEN = re.compile(
    r"^```.*?^```|^ {4}[^\n]*|`[^`\n]+`|(?<=\])\([^)\n]*\)|\$[^$\n]+\$|\b\d{7}\b", re.MULTILINE | re.DOTALL
)
UNITS = {"k": 1e3, "M": 1e6}


def hide(document: str) -> str:
    """Blank out code, link targets, formulas and commits; positions stay."""
    return HIDDEN.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), document)


def plain(cell: str) -> str:
    return re.sub(r"[`*]|\]\([^)]*\)|\[", "", cell).strip()


def cells(line: str) -> list[tuple[int, str]]:
    """Split a table's line into the position and text of each cell."""
    return [(match.start(), match[0]) for match in re.finditer(r"(?<=\|)[^|\n]*(?=\|)", line)]


def find_row(document: str, header: str, label: Sequence[str]) -> tuple[int, int]:
    """Return start and end of the rest of a row; an empty first cell repeats the one above."""
    starts = [match.start() for match in re.finditer(rf"^\| ?{re.escape(header)}", document, re.MULTILINE)]
    found, above = [], ""
    for start in starts:
        for line in re.finditer(r".*\n?", document[start:]):
            if not line[0].startswith("|"):
                break
            parts = cells(line[0])
            first = [plain(cell) for _, cell in parts[: len(label)]]
            above = first[0] = first[0] or above
            if first == list(label):
                begin = start + line.start()
                found.append((begin + parts[len(label)][0], begin + len(line[0])))
    if len(found) != 1:
        raise LookupError(f"{len(found)} rows {' | '.join(label)!r} in tables {header!r}")
    return found[0]


def find(document: str, place: str | tuple[str, ...]) -> list[tuple[int, str]]:
    """Return position and text of every number of a claim."""
    if isinstance(place, tuple):
        start, end = find_row(document, place[0], place[1:])
        return [(match.start(), match[0]) for match in TOKEN.finditer(hide(document), start, end)]
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in place.split("{}")]
    matches = list(re.finditer(f"({NUMBER}|{VERDICT})".join(parts), document))
    if len(matches) != 1:
        raise LookupError(f"{len(matches)} places with the text {place!r}")
    return [(matches[0].start(i), matches[0][i]) for i in range(1, len(parts))]


def agrees(printed: str, value: Value) -> bool:
    """Return whether a printed number is the value, rounded to the digits that are printed."""
    if value is None or isinstance(value, str):
        return value in (None, printed)
    suffix = UNITS.get(printed[-1], 1.0)
    digits = printed.rstrip("kM").replace(",", "")
    unit = suffix * 10.0 ** -len(digits.partition(".")[2])
    if isinstance(value, Rounded):
        value, unit = value.value, value.unit
    return bool(abs(float(digits) * suffix - value) <= unit / 2 * (1 + 1e-6))


def check(documents: Mapping[str, str], claims: Sequence[Claim]) -> tuple[list[str], dict[str, set[int]]]:
    """Compare claims with documents.

    Returns:
        One line for each claim that fails, and the positions of the numbers that were recomputed, by document.
    """
    errors: list[str] = []
    recomputed: dict[str, set[int]] = {name: set() for name in documents}
    for claim in claims:
        document = documents[claim.document]
        try:
            printed = find(document, claim.place)[-claim.tail :]
        except LookupError as error:
            errors.append(f"{claim.document}: there are {error}.")
            continue
        where = f"{claim.document}:{document.count(chr(10), 0, printed[0][0]) + 1}" if printed else claim.document
        if len(printed) != len(claim.values):
            errors.append(f"{where}: {claim.place} has {len(printed)} numbers, {len(claim.values)} are computed.")
            continue
        wrong = [
            f"{shown} is {value.value if isinstance(value, Rounded) else value}"
            for (_, shown), value in zip(printed, claim.values, strict=True)
            if not agrees(shown, value)
        ]
        if wrong:
            errors.append(f"{where}: {claim.place}: {', '.join(wrong)} by results/.")
        recomputed[claim.document] |= {
            start for (start, _), value in zip(printed, claim.values, strict=True) if value is not None
        }
    return errors, recomputed


def numbers(document: str) -> list[tuple[int, str]]:
    """Return position and text of every number outside of code, links and formulas."""
    return [(match.start(), match[0]) for match in TOKEN.finditer(hide(document)) if re.match(NUMBER, match[0])]


def sources(document: str, position: int) -> list[str]:
    """Return the files of results/ that the paragraph or row of a position links to, else those of its section."""
    link = r"\]\((?:\.\./)?(results/[^)#]*)"
    line = document.rfind("\n", 0, position) + 1
    if document[line] == "|":
        block = document[line : document.find("\n", position)]
    else:
        block = document[document.rfind("\n\n", 0, position) + 1 : document.find("\n\n", position)]
    section = re.split(r"^#+ ", document[:position], flags=re.MULTILINE)[-1]
    section += re.split(r"^#+ ", document[position:], flags=re.MULTILINE)[0]
    return sorted(set(re.findall(link, block) or re.findall(link, section)))


def read_documents() -> dict[str, str]:
    names = ["README.md", "CHANGELOG.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description="Recompute the numbers of the documents from results/.")
    parser.add_argument("--list", action="store_true", help="print every number, its line, and its sources")
    is_listed = parser.parse_args().list
    documents = read_documents()
    errors, recomputed = check(documents, registry())
    for name, document in documents.items():
        found = numbers(document)
        for position, printed in found if is_listed else ():
            line = document.count("\n", 0, position) + 1
            state = "recomputed" if position in recomputed[name] else "not recomputed"
            print(f"{name}:{line}: {printed} {state}; {', '.join(sources(document, position)) or 'no source'}")
        count = sum(position in recomputed[name] for position, _ in found)
        print(f"{name}: {count} numbers recomputed, {len(found) - count} not")
    for error in errors:
        print(error, file=sys.stderr)
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
