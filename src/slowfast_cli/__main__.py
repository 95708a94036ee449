"""`python -m slowfast_cli` is `slowfast`."""

from slowfast_cli.main import main

main()
