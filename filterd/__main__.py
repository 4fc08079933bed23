"""`python -m filterd` is the command `filterd`."""

from filterd.cli.main import main

main()
