"""`python -m worker`: the same as `streamgauge worker`."""

import sys

from streamgauge.__main__ import main

if __name__ == "__main__":
    main(["worker", *sys.argv[1:]])
