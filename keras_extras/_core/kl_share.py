"""By what share divergences count while a callback warms them up."""

import contextvars

# Layers that are built in the first step of a warm-up start with its share.
current_share: contextvars.ContextVar[float] = contextvars.ContextVar("kl_share", default=1.0)
