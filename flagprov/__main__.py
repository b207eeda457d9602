"""`python -m flagprov`: the same as the console script."""

from flagprov.cli.main import main

if __name__ == "__main__":
    main()
