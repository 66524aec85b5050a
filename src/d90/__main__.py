"""`python -m d90`."""

from d90.cli import main

if __name__ == "__main__":
    main()
