"""How a network is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.utils.display import Displayed


class NetworkDisplay(Displayed):
    """Base of :class:`xpnet.Network`: its architecture, number and place in words."""

    def _facts(self: Any) -> Mapping[str, str]:
        names = ", ".join(self.class_names[:5]) + (", ..." if len(self.class_names) > 5 else "")
        facts = {
            "": self.config.in_words(),
            "replicas": str(self.replicas),
            "parameters": f"{self.size:,}",
            "dtype": str(self.dtype),
            "device": self.backend.device,
        }
        return facts | ({"classes": names} if names else {})
