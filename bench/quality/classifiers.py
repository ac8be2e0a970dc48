"""The classifiers, each with its defaults; those that need numbers get them from the usual first steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple


class Classifier(NamedTuple):
    """A classifier.

    Attributes:
        package: The package that it needs, as it is imported.
        make: Function that returns it unfitted, from the columns X and the seed of its random numbers.
    """

    package: str
    make: Callable[[Any, int], Any]


def missing(name: str) -> str | None:
    """Return why a classifier cannot be had, None if it can."""
    package = CLASSIFIERS[name].package
    return None if importlib.util.find_spec(package) else f"{package} is not installed"


def categories(X: Any) -> list[str]:
    """Return the columns of categories."""
    return [] if not hasattr(X, "dtypes") else [name for name, kind in X.dtypes.items() if str(kind) == "category"]


def _numbers_first(X: Any, model: Any, *, scaled: bool = True) -> Any:
    """Return a pipeline that fills missing numbers with medians, standardises, and encodes categories one-hot."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    scale = [StandardScaler()] if scaled else []
    if not hasattr(X, "dtypes"):
        return make_pipeline(*scale, model)
    names = categories(X)
    numbers = [name for name in X.columns if name not in names]
    fill = make_pipeline(SimpleImputer(strategy="median"), *scale)
    encode = OneHotEncoder(handle_unknown="ignore")
    return make_pipeline(ColumnTransformer([("numbers", fill, numbers), ("categories", encode, names)]), model)


def _xpnet(_: Any, seed: int, **settings: Any) -> Any:
    from xpnet.sklearn import XpnetClassifier

    return XpnetClassifier(random_state=seed, **settings)


def _mlp(X: Any, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return _numbers_first(X, MLPClassifier(random_state=seed))


def _logistic(X: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return _numbers_first(X, LogisticRegression(random_state=seed))


def _forest(X: Any, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return _numbers_first(X, RandomForestClassifier(random_state=seed), scaled=False)


def _histogram_boosting(_: Any, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(random_state=seed)


def _lightgbm(_: Any, seed: int) -> Any:
    from lightgbm import LGBMClassifier

    # One thread: others of it wait actively, which takes minutes on a machine that is at work.
    return LGBMClassifier(random_state=seed, verbose=-1, n_jobs=1)


def _catboost(X: Any, seed: int) -> Any:
    from catboost import CatBoostClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    names = categories(X)
    model = CatBoostClassifier(
        random_seed=seed, verbose=False, allow_writing_files=False, **({"cat_features": names} if names else {})
    )
    return make_pipeline(FunctionTransformer(_with_texts), model) if names else model


def _with_texts(X: Any) -> Any:
    """Return a frame whose categories are texts, "missing" among them, since CatBoost takes no missing category."""
    return X.assign(**{name: X[name].astype(object).where(X[name].notna(), "missing") for name in categories(X)})


ENSEMBLE = "XpnetClassifier, 32 members"
CLASSIFIERS = {
    "XpnetClassifier": Classifier("xpnet", _xpnet),
    ENSEMBLE: Classifier("xpnet", lambda X, seed: _xpnet(X, seed, members=32, diversity=True)),
    "MLPClassifier": Classifier("sklearn", _mlp),
    "LogisticRegression": Classifier("sklearn", _logistic),
    "RandomForest": Classifier("sklearn", _forest),
    "HistGradientBoosting": Classifier("sklearn", _histogram_boosting),
    "LightGBM": Classifier("lightgbm", _lightgbm),
    "CatBoost": Classifier("catboost", _catboost),
}
