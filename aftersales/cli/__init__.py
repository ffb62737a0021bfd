"""The command `aftersales`: one subcommand per step of the loop.

Exit codes: 0 ok, 1 findings or refused, 2 usage, 3 failed. Data goes to standard output, progress and errors to
standard error. Heavy packages are imported inside the commands that need them.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from aftersales.cli import (
    access,
    action,
    collect,
    duplicates,
    exchange,
    metric,
    privacy,
    quality,
    report,
    serving,
    workspace,
)
from aftersales.cli.console import err
from aftersales.model.errors import AftersalesError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="After-sales data goes in; out comes the one thing to fix next, why, and the proof that it worked.",
)
for commands in (workspace, collect, quality):
    app.add_typer(commands.app)
app.add_typer(metric.app, name="metric")
app.add_typer(action.app, name="action")
app.add_typer(duplicates.app, name="duplicates")
app.add_typer(quality.codes_app, name="codes")
app.add_typer(exchange.app, name="exchange")
app.add_typer(privacy.app, name="privacy")
app.add_typer(report.app, name="report")
app.add_typer(access.app, name="access")
app.add_typer(serving.app)


def main() -> NoReturn:
    """Run the command line; errors come in four parts, without a traceback unless --debug is given."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="aftersales", standalone_mode=True)
    except AftersalesError as error:
        if debug:
            raise
        err.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        where, what = error.filename or "disk", error.strerror or type(error).__name__
        err.print(
            f"{where}: {what}\n  rows : none lost: what was committed before stays\n"
            "  fix  : free disk space or mend the rights, then run the command again",
            style="red", markup=False, soft_wrap=True,
        )  # fmt: skip
        sys.exit(3)
    except KeyboardInterrupt:
        err.print("interrupted; what was committed before stays", markup=False)
        sys.exit(3)
    except Exception as error:
        if debug:
            raise
        err.print(
            f"aftersales: {type(error).__name__}: {error}\n  fix  : run again with --debug and report what it prints",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        sys.exit(3)
    sys.exit(0)
