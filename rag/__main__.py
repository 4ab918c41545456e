"""`python -m rag` is `footnote`."""

from rag.cli import main

main()
