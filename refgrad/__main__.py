"""`python -m refgrad`."""

from refgrad.cli import run

run()
