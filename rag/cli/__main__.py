"""Run `footnote` as `python -m rag.cli`."""

from rag.cli.main import main

main()
