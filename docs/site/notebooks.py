"""The tutorials: executed where they stand, and as pages of the site.

    python docs/site/notebooks.py                    # execute all notebooks of docs/tutorials, and write their outputs
    python docs/site/notebooks.py first-network      # execute those whose names contain this
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
SECONDS = 120  # for one cell
# What a page shows of an output, the best first.
_KINDS = ("image/svg+xml", "image/png", "text/html", "text/plain")
_COLOURS = re.compile("\x1b\\[[0-9;]*m")


def to_markdown(path: Path) -> str:
    """Return a notebook as Markdown: its text, its code, and the outputs that are stored in it."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source.strip():
            parts.append(f"```python\n{source}\n```")
            parts += [shown for output in cell["outputs"] if (shown := _shown(output))]
    title, _, rest = "\n\n".join(parts).partition("\n")
    note = (
        f'<p class="notebook">This page is a notebook: <a href="{path.name}" download>download it</a>, '
        "open it in Jupyter, change it and run it again.</p>"
    )
    return f"{title}\n\n{note}\n{rest}\n"


def _shown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return _text("".join(output["text"]))
    data = output.get("data", {})
    kind = next((kind for kind in _KINDS if kind in data), None)
    if kind is None:
        return ""
    text = "".join(data[kind])
    if kind == "text/plain":
        return _text(text)
    if kind == "image/png":
        text = f'<img alt="" src="data:image/png;base64,{text.strip()}">'
    # Markdown ends a block of HTML at an empty line.
    text = re.sub(r"\s*\n\s*", " ", text)
    return f'<div class="output">{text}</div>'


def _text(text: str) -> str:
    """Return text that was printed, without colours, as a block of a style of its own."""
    return "``` { .text .printed }\n" + _COLOURS.sub("", text).rstrip().replace("```", "'''") + "\n```"


def execute(path: Path, folder: Path) -> Any:
    """Return a notebook with the outputs of a new execution, in a process of its own and in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute()
    return _tidied(notebook)


def _tidied(notebook: Any) -> Any:
    """Return the notebook without what differs from machine to machine; texts of one stream are one output."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_slim, _joined(cell.outputs)) if output is not None]
    return notebook


def _joined(outputs: list[Any]) -> Iterator[Any]:
    last = None
    for output in outputs:
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
            continue
        last = output
        yield output


def _slim(output: Any) -> Any:
    """Return an output without progress bars and without descriptions of charts that only Python understands."""
    if output.output_type == "stream":
        return None if output.name == "stderr" else output
    if "data" in output:
        output.metadata = {}
        kinds = [kind for kind in _KINDS if kind in output.data]
        output.data = {kind: output.data[kind] for kind in kinds[:1] + [k for k in kinds[1:] if k == "text/plain"]}
        if kinds and kinds[0].startswith("image/"):
            output.data.pop("text/plain", None)
    return output


def main() -> None:
    """Execute the notebooks that the command line names, and write them."""
    import nbformat

    names = sys.argv[1:]
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        if names and not any(name in path.stem for name in names):
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        nbformat.write(notebook, path)
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
