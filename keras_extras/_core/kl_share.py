"""By what share divergences count while a callback warms them up."""

import contextvars

# Layers that are built while a warm-up runs start with its share.
current_share: contextvars.ContextVar[float] = contextvars.ContextVar("kl_share", default=1.0)
