"""`python -m producer`: the same as `streamgauge produce`."""

import sys

from streamgauge.commands.cli import main

if __name__ == "__main__":
    main(["produce", *sys.argv[1:]])
