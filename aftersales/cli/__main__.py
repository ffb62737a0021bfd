"""`python -m aftersales.cli`."""

from aftersales.cli import main

if __name__ == "__main__":
    main()
