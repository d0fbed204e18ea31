"""`python -m feedback_listener` is `streamgauge listen`."""

import sys

from streamgauge.commands.cli import main

if __name__ == "__main__":
    main(["listen", *sys.argv[1:]])
