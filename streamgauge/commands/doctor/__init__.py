"""`streamgauge doctor`: what is configured so that it cannot work, or will not for long. It changes nothing.

A `Picture` is collected first (`collect*.py`, the shell), then looked at (`*_checks.py`, pure). A part that could not
be seen is `Unseen`, with the reason; a check that needs it is not made, which is said, and is no finding.
"""
