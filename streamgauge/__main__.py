"""`python -m streamgauge`: the command line."""

from streamgauge.cli import main

if __name__ == "__main__":
    main()
