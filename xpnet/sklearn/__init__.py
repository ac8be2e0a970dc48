"""A classifier for scikit-learn: networks and ensembles with ``fit`` and ``predict``."""

try:
    import narwhals as _narwhals  # noqa: F401
    import sklearn as _sklearn  # noqa: F401
except ImportError as _error:
    raise ImportError(
        f"xpnet.sklearn needs scikit-learn and narwhals ({_error}); install them with xpnet's extra: "
        "pip install 'xpnet[sklearn]'",
        name=_error.name,
    ) from None

from xpnet.sklearn.classifier import XpnetClassifier
from xpnet.sklearn.search import PopulationSearchCV

__all__ = ["PopulationSearchCV", "XpnetClassifier"]
