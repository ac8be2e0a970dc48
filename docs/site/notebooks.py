"""The tutorials: executed where they stand, and as pages of the site.

``python docs/site/notebooks.py`` executes all notebooks of docs/tutorials and writes their outputs into them; names
after it choose some.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
SECONDS = 120  # for one cell
WIDTH = 92  # of text that was printed, on a page
# What a page shows of an output, the best first.
_KINDS = ("image/svg+xml", "image/png", "text/html", "text/plain")
# What pandas adds to its tables, so that they look like those of the page without it.
_FRAME = re.compile(r'<style scoped>.*?</style>| border="1" class="dataframe"| style="text-align: \w+;"', re.DOTALL)
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
        width = output["metadata"].get(kind, {}).get("width")
        size = f' width="{width:.0f}"' if width else ""
        text = f'<img alt="The figure that this cell draws"{size} src="data:image/png;base64,{text.strip()}">'
    text = _FRAME.sub("", text)
    # Markdown ends a block of HTML at an empty line.
    text = re.sub(r"\s*\n\s*", " ", text)
    return f'<div class="output">{text}</div>'


def _text(text: str) -> str:
    """Return text that was printed as a block of a style of its own; long sentences are wrapped, and tables are not."""
    lines = []
    for line in text.rstrip().replace("```", "'''").split("\n"):
        is_sentence = len(line) > WIDTH and "  " not in line.strip()
        lines += textwrap.wrap(line, WIDTH, subsequent_indent="    ") if is_sentence else [line]
    return "\n".join(["``` { .text .printed }", *lines, "```"])


def execute(path: Path, folder: Path) -> Any:
    """Return a notebook with the outputs of a new execution, in a process of its own and in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    import nbformat
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as sockets:  # files, so that no port is opened
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        client = NotebookClient(notebook, km=kernel, timeout=SECONDS, record_timing=False)
        client.resources = {"metadata": {"path": str(folder)}}
        client.execute(cleanup_kc=True)
    return _tidied(notebook, f"{folder}/")


def _tidied(notebook: Any, folder: str) -> Any:
    """Return the notebook without what differs from machine to machine; texts of one stream are one output."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.outputs = [_slim(output) for output in _joined(cell.outputs)]
            for output in cell.outputs:
                if "text" in output:
                    output.text = re.sub(r"[ \r]+\n", "\n", _COLOURS.sub("", output.text).replace(folder, ""))
    return notebook


def _joined(outputs: list[Any]) -> Iterator[Any]:
    """Yield outputs, pieces of one stream as one, without progress bars, which are written to standard error."""
    last = None
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
            continue
        last = output
        yield output


def _slim(output: Any) -> Any:
    """Return an output with its best form alone; beside HTML the plain text stays, for those who read the file."""
    if "data" in output:
        kinds = [kind for kind in _KINDS if kind in output.data][:1]
        output.metadata = {kind: output.metadata[kind] for kind in kinds if kind in output.metadata}
        kinds += ["text/plain"] if kinds == ["text/html"] else []
        output.data = {kind: output.data[kind] for kind in kinds}
        if "image/png" in output.metadata:  # a chart; photographs have no size of their own
            output.data["image/png"] = _smaller(output.data["image/png"])
    return output


def _smaller(png: str) -> str:
    """Return a chart with at most 64 colours, which takes a tenth of the room, in base64."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
    file = io.BytesIO()
    paper.quantize(64, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


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
