"""`python -m dfal` is the command line."""

from dfal.cli import main

if __name__ == "__main__":
    main()
