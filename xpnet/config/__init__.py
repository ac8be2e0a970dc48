"""Every setting once: name, default, range, help; settings of a run together."""
