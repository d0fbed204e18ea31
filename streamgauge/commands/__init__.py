"""The command line, on top of everything: the one package that may import all services."""
