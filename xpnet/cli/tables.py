"""Tables for people, made with rich."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from xpnet.cli.console import number, percent
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.training.population import Population
    from xpnet.training.result import TrainResult

# Most folds whose accuracies are printed.
_FOLDS_SHOWN = 20


def table(
    heads: Iterable[str | Any],
    rows: Iterable[Sequence[Any]] = (),
    *,
    left: Sequence[str] = ("",),
    title: str | None = None,
    rule: bool = True,
    gap: int | None = None,
) -> Table:
    """Return a table of cells that do not wrap.

    Args:
        heads: The heads of the columns.
        rows: Cells, each a string or a rich Text.
        left: Heads of the columns that are aligned on the left.
        title: The title above the table.
        rule: Whether a line separates the heads from the rows.
        gap: Spaces between two columns, in place of rich's default.
    """
    padding = (0, 1) if gap is None else (0, gap, 0, 0)
    box = SIMPLE_HEAD if rule else None
    made = Table(title=title, title_justify="left", box=box, pad_edge=False, padding=padding)
    for head in heads:
        made.add_column(head, justify="left" if str(head) in left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def facts(pairs: Iterable[tuple[str, Any]]) -> Table:
    """Return a table of names, which are bold, and values, which wrap."""
    made = Table(show_header=False, box=None, pad_edge=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column()
    for pair in pairs:
        made.add_row(*pair)
    return made


def figures(metrics: Mapping[str, Any]) -> list[str]:
    """Return the cells of accuracy, loss and cost."""
    return [percent(metrics["accuracy"]), number(metrics["loss"]), number(metrics["cost"])]


def plain(value: Any) -> str:
    """Return the value of a setting as short text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def combinations_table(
    population: Population, result: TrainResult, folds: Sequence[Mapping[str, Any]] | None = None
) -> Table:
    """Return one row for each combination of settings: validation and test figures over its seeds.

    The combination with the best validation accuracy is bold, unless no network is better than guessing; with the
    figures of each network's `folds`, that with the best mean accuracy over them.  The test set has no influence on
    this choice, and a diverged network counts as worse than all others.
    """
    import numpy as np

    from xpnet.training.history import summary

    trained = len(result.test.losses)
    combinations = [(c, [r for r in members if r < trained]) for c, members in population.combinations()]
    combinations = [(c, members) for c, members in combinations if members]
    judged, by = result.validation.accuracies, "validation"
    if folds is not None:
        values = np.array([one["accuracy"]["values"] for one in folds], dtype=float)
        judged, by = np.nan_to_num(values, nan=-1).mean(axis=1), "folds"
    accuracies = [float(np.nan_to_num(judged[m], nan=-1).mean()) for _, m in combinations]
    best = None if result.none_better else int(np.argmax(accuracies))
    several = max(len(members) for _, members in combinations) > 1
    runs = ["runs"] if several else []
    made = table(
        [
            *combinations[0][0],
            *runs,
            *([] if folds is None else ["folds"]),
            "validation",
            "test",
            "test loss",
            "test cost",
            "",
        ]
    )
    for index, (combination, members) in enumerate(combinations):
        cells = [*map(plain, combination.values()), *([str(len(members))] if several else [])]
        cells += [] if folds is None else [percent(summary(values[members].reshape(-1)))]
        cells += [percent(result.validation.part(members).accuracy), *figures(result.test.part(members))]
        diverged = sum(r in result.diverged for r in members)
        notes = [f"best {by}"] if index == best else []
        notes += [f"{diverged} of {len(members)} diverged"] if diverged and several else []
        made.add_row(*cells, "; ".join(notes), style="bold" if index == best else None)
    return made


def in_words(result: TrainResult) -> str:
    """Return the length of a training, its wall times, and when it was stopped, in a line or two."""
    from xpnet.training.result import stops_in_words

    epochs = sorted(result.seconds_training)
    median = f" ({epochs[len(epochs) // 2]:.3f} s an epoch)" if epochs else ""
    stops = f"\n{stops_in_words(result.stops())}" if result.weights else ""
    return (
        f"{counted(result.epochs, 'epoch')}, {counted(result.steps, 'step')} on {result.device}; "
        f"transforms {result.seconds_transforms:.2f} s, training {sum(epochs):.2f} s{median}, "
        f"evaluation {result.seconds_evaluation:.2f} s{stops}"
    )


def folds_in_words(folds: Mapping[str, Any]) -> str:
    """Return the accuracy on each fold in a line: the mean of the networks that did not diverge there."""
    import numpy as np

    values = np.array(folds["accuracy"]["values"], dtype=float).reshape(-1, folds["folds"])
    known = np.isfinite(values)
    means = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    cells = [
        f"{100 * mean:.2f}" if any_known else "-" for mean, any_known in zip(means, known.any(axis=0), strict=True)
    ]
    shown, left = cells[:_FOLDS_SHOWN], len(cells) - _FOLDS_SHOWN
    more = f", and {left} more, which metrics.json has" if left > 0 else ""
    return f"accuracy on each fold, in %: {', '.join(shown)}{more}"


def result_table(result: TrainResult, folds: Mapping[str, Any] | None = None) -> Table:
    """Return one row for each set, and for the folds of a cross-validation: accuracy, loss and cost."""
    made = Table("", *(Column(head, justify="right") for head in ("accuracy", "loss", "cost")))
    for name, which in (("training", "train"), ("validation", "validation"), ("test", "test")):
        made.add_row(name, *figures(getattr(result, which)))
    if folds is not None:
        made.add_row(f"{folds['folds']} folds", percent(folds["accuracy"]), number(folds["loss"]), "")
    if (seen := result.test_views) is not None:
        made.add_row(f"test, {result.views} views", percent(seen.accuracy), number(seen.loss), "")
    return made


def concluded(figures: Mapping[str, Any]) -> list[str]:
    """Return the line with the conclusion of a run or a search; none if it is a warning, which is printed as such."""
    conclusion = figures.get("conclusion")
    if conclusion is None or conclusion["text"] in figures.get("warnings", ()):
        return []
    return [f"conclusion: {conclusion['text']}"]
