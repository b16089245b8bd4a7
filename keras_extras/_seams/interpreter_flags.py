"""The options that this Python was started with.

Called is `subprocess._args_from_interpreter_flags`, by which `multiprocessing` starts processes; it
turns `sys.flags` into options, which nothing public does. Known to hold since Python 3.10. A public
name would make it unnecessary.
"""

import subprocess


def interpreter_flags() -> list[str]:
    """Returns the options, such as `-W error`, as a list of arguments."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
