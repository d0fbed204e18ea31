"""`python -m feedback_listener` is `streamgauge listen`."""

import sys

from streamgauge.__main__ import main

if __name__ == "__main__":
    main(["listen", *sys.argv[1:]])
