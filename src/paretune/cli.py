"""The command line: which commands there are, and what an error looks like. An edge: the terminal, the exit code.

The rule: an error of ours is one message with a hint on standard error and its own exit code; anything else is exit 1 and a way to
see more. Exit codes: see EXIT_CODES; each error says its own (errors.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from paretune.commands.account import account, token
from paretune.commands.approve import approve, retire, rules
from paretune.commands.calibrate import calibrate
from paretune.commands.check import check
from paretune.commands.console import console
from paretune.commands.continuous import continuous
from paretune.commands.demo import demo
from paretune.commands.distil import distil
from paretune.commands.doctor import doctor
from paretune.commands.export import export
from paretune.commands.guard import guard
from paretune.commands.headroom import headroom
from paretune.commands.history import audit, diff, history
from paretune.commands.init import init
from paretune.commands.isolate import isolate
from paretune.commands.join import join
from paretune.commands.ledger import ledger
from paretune.commands.monitor import monitor
from paretune.commands.plan import plan
from paretune.commands.plan_exploration import plan_exploration
from paretune.commands.publish import publish
from paretune.commands.readout import readout
from paretune.commands.rehearse import rehearse
from paretune.commands.report import report
from paretune.commands.rollout import activate, kill, ramp, release, rollback
from paretune.commands.serve import serve
from paretune.commands.sessions import sessions
from paretune.commands.simulate import simulate
from paretune.commands.surface import surface
from paretune.commands.sweep import sweep
from paretune.commands.train import train
from paretune.commands.version import version
from paretune.commands.worth import worth
from paretune.errors import ParetuneError

EXIT_CODES = {
    0: "done",
    1: "unexpected",
    2: "usage or configuration",
    3: "data rejected",
    4: "the data cannot tell or a rule says no",
    5: "unreachable",
    130: "interrupted",
}
INTERRUPTED = 130
TRACEBACK = "PARETUNE_TRACEBACK"  # set in the environment, unexpected errors show where they come from

app = typer.Typer(
    name="paretune",
    help="Personal utility weights for multi-task rankers: explore a little, learn the value of weights, choose from an honest front.",
    epilog=f"Exit codes: {', '.join(f'{code} {meaning}' for code, meaning in EXIT_CODES.items())}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    demo,
    init,
    check,
    surface,
    headroom,
    plan_exploration,
    simulate,
    join,
    train,
    isolate,
    sweep,
    worth,
    sessions,
    calibrate,
    distil,
    export,
    plan,
    publish,
    approve,
    activate,
    serve,
    readout,
    monitor,
    guard,
    ledger,
    ramp,
    rollback,
    kill,
    release,
    retire,
    rules,
    history,
    diff,
    audit,
    console,
    account,
    token,
    continuous,
    rehearse,
    report,
    doctor,
    version,
)  # in the order of the journey
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        args: the words after `paretune`; those of the process when left out.
    """
    try:
        app(args=None if args is None else list(args), prog_name="paretune")
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
        if code == INTERRUPTED:  # typer makes this of Ctrl-C, and says nothing
            _tell("interrupted")
        return code
    except ParetuneError as error:
        _tell(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _tell("interrupted")
        return INTERRUPTED
    except Exception as error:  # broad: the last place that can turn a fault into a message instead of a page of frames
        if os.environ.get(TRACEBACK):
            raise
        _tell(f"unexpected {type(error).__name__}: {error}\n  hint: set {TRACEBACK}=1 to see where it comes from, and report it")
        return 1
    return 0


def _tell(message: str) -> None:
    """Write an error to standard error, in red where somebody looks."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    head = "\x1b[31merror:\x1b[0m" if colour else "error:"
    sys.stderr.write(f"{head} {message}\n")
