"""A classifier for scikit-learn: networks and ensembles with ``fit`` and ``predict``."""

from xpnet.utils.extras import need as _need

_need("sklearn", "xpnet.sklearn")

from xpnet.sklearn.classifier import XpnetClassifier  # noqa: E402
from xpnet.sklearn.search import PopulationSearchCV  # noqa: E402

__all__ = ["PopulationSearchCV", "XpnetClassifier"]
