"""`python -m producer`: the same as `streamgauge produce`."""

import sys

from streamgauge.__main__ import main

if __name__ == "__main__":
    main(["produce", *sys.argv[1:]])
