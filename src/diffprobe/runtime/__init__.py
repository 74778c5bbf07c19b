"""What every room builds on: atomic files, safe removal, locks, keyed randomness, progress, receipts, job frames."""

import signal
import sys
from pathlib import Path

# Ctrl-C in the moment before `job` hears signals ends a script without a traceback.
in_script = Path(sys.argv[0]).resolve().parts[-3:-1] == ("workflow", "scripts")
if in_script and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
