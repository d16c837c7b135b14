"""Notebooks as they are committed, outputs included, as Markdown and pictures."""

import base64
import json
import re
from pathlib import Path


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook's Markdown and its pictures by name; pictures stand in the page's folder.

    Args:
        path: of the .ipynb file.

    Returns: the text, and {"NAME_3.png": content}.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    pictures: dict[str, bytes] = {}
    parts: list[str] = []
    for index, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", source))
        elif source.strip():
            parts.append(fenced(source, "python"))
            parts += [shown(one, f"{path.stem}_{index}", pictures) for one in cell.get("outputs", [])]
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def shown(output: dict, name: str, pictures: dict[str, bytes]) -> str:
    """One output: a picture where there is one, a small HTML table, else its plain text."""
    data = output.get("data", {})
    if "image/png" in data:
        file = f"{name}.png" if f"{name}.png" not in pictures else f"{name}_{len(pictures)}.png"
        pictures[file] = base64.b64decode("".join(data["image/png"]))
        return f"![Output of the cell above]({file})"
    if "application/vnd.jupyter.widget-view+json" in data:
        return "*(An interactive control; it needs a running notebook, `make lab`.)*"
    page = re.sub(r"<style.*?</style>", "", "".join(data.get("text/html", "")), flags=re.DOTALL)
    if page and "<svg" not in page and "<script" not in page:
        lines = (line.strip() for line in page.splitlines())  # an indented line would be code in Markdown
        return f'<div class="output">\n{"".join(lines)}\n</div>'
    text = "".join(output.get("text", data.get("text/plain", [])))
    return f'<div class="output" markdown>\n\n{fenced(text.rstrip(), "text")}\n\n</div>' if text.strip() else ""


def fenced(text: str, language: str) -> str:
    """A fenced block, its fence longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
