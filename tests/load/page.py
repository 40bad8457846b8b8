"""The pieces of docs/benchmarks.md: each benchmark replaces its own part and leaves the others."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HEAD = ["# Benchmarks", "", "Written by `just bench`, `just bench-pair`, `just bench-policy` and `just bench-ledger`; the numbers of a part come from one run."]


def write(part, lines):
    """Replaces what stands between the marks of `part`; a part that is not there yet comes last."""
    path = DOCS / "benchmarks.md"
    parts = read(path)
    parts[part] = "\n".join(lines).strip("\n")
    text = "\n".join(HEAD) + "\n"
    for name, body in parts.items():
        text += f"\n<!-- {name} -->\n\n{body}\n\n<!-- end -->\n"
    path.write_text(text)


def read(path):
    parts, name, body = {}, None, []
    for line in path.read_text().splitlines() if path.exists() else []:
        if line == "<!-- end -->":
            parts[name], name = "\n".join(body).strip("\n"), None
        elif line.startswith("<!-- ") and name is None:
            name, body = line[5:-4], []
        elif name is not None:
            body.append(line)
    return parts
