"""`python -m daelab`."""

from daelab.cli import main

if __name__ == "__main__":
    main()
