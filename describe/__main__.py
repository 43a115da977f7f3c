"""`python -m describe`, the same as the console script."""

from describe.cli import main

main()
