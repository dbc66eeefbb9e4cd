"""The process of one fold of a cross-validation; see `aipcore.training.folds.processes`."""

from __future__ import annotations

import sys
import traceback

from aipcore.errors import AipError
from aipcore.hooks.discovery import Switches
from aipcore.hooks.manager import configure_plugins, get_plugin_manager
from aipcore.params.names import escaped
from aipcore.scenario.record import recorded_scenario
from aipcore.training.folds.processes import follow_parent
from aipcore.training.request import make_request
from aipcore.training.resume import resume_run
from aipcore.training.session import Output
from aipcore.training.stored_run import find_stored_run
from aipcore.training.train import train_request


def main() -> int:
    """Train or resume a fold, and return the exit code."""
    asked = follow_parent()
    configure_plugins(Switches.from_environment(disabled=asked["disabled"], third_party=asked["third_party"]))
    output = Output(owns_process=True)
    folder = asked["folder"]
    try:
        if asked["begun"]:
            result = resume_run(find_stored_run(folder, asked["overrides"], trust=asked["trust"]), output)
        else:
            plugins = get_plugin_manager()
            # The command of the user has already loaded this scenario.
            scenario = recorded_scenario(asked["about"], plugins, trust=True, where=folder)
            result = train_request(make_request(scenario, asked["layers"], plugins), output)
    except AipError as error:
        if error.__cause__ is not None:
            traceback.print_exc()
        print(f"error: {escaped(str(error))}", file=sys.stderr)  # noqa: T201 - the fold's log
        return error.exit_code
    return 0 if result.signal is None else 128 + int(result.signal)


if __name__ == "__main__":
    sys.exit(main())
