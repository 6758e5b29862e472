"""`python -m dfal` is the command line."""

from dfal.cli import main

main()
