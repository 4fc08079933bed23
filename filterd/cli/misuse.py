"""What a command cannot do for what it was given."""

import click


class MisuseError(click.ClickException):
    """What was given cannot be worked with: status 2, as 1 says that something was found."""

    exit_code = 2
