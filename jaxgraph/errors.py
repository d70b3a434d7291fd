"""The one kind of error that a user can mend, and how scripts end with it."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Wrong config, data, checkpoint or argument: the message names the culprit and the remedy."""


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a script's `main(argv)`; a `UserError` becomes one message and exit code 2."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code or 0)
