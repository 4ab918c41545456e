"""`python -m rag.cli` is `footnote`."""

from rag.cli.main import main

main()
