"""Every place where another library is wrapped, overridden or asked for what is not public.

A seam is a small file that other folders call with a callback; what it is for stays there. Its
docstring says what is wrapped or read, why there is no public way, since which version that holds,
and what would make the file unnecessary. A method is wrapped once, by `wrapped_methods`, and
replaced for a block of one thread by `thread_replacement`. Each seam asks first whether an object
is ours, and leaves others to the library. `tests/test_seams.py` has a canary for each.
"""
