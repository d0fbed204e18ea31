"""`python -m streamgauge`: the command line."""

from streamgauge.commands.cli import main

if __name__ == "__main__":
    main()
