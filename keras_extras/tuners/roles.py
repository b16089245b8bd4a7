"""Which part this process has in a search over several processes, by keras-tuner's variables."""

import os


def is_distributed() -> bool:
    """Whether this process belongs to a search over several processes."""
    return "KERASTUNER_ORACLE_IP" in os.environ


def is_chief() -> bool:
    """Whether this process hands out the trials of others."""
    return is_distributed() and "chief" in os.environ.get("KERASTUNER_TUNER_ID", "")


def is_worker() -> bool:
    """Whether this process gets its trials from a chief."""
    return is_distributed() and not is_chief()
