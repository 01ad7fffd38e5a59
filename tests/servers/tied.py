"""Become another program, drop rights first if asked, and die with the parent process.

    python tests/servers/tied.py [--user NAME] [--signal NAME] PROGRAM ARGS…

What a killed test run started ends with it. A program between the two, because a `preexec_fn` is
unsafe beside threads and the kernel forgets the wish when the user changes.
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def drop_rights(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with_parent(number: int) -> None:
    """Ask Linux to send a signal when the thread that started this process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user")
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.user:
        drop_rights(options.user)
    die_with_parent(signal.Signals[options.signal])
    os.execvp(options.command[0], options.command)


if __name__ == "__main__":
    main()
