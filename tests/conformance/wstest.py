"""Runs the Autobahn Testsuite as client or server: python2.7 -E wstest.py client|server SPEC.

This is read by Python 2.7 and, by the linter, as Python 3. The specification is Autobahn's own, and
may say in "messages" how many a case sends that sends many (9.7, 9.8, 12 and 13; the suite's own
number is 1000). The server listens on $HOST and $PORT.
"""

import json
import os
import sys

from autobahntestsuite import case, fuzzing
from twisted.internet import reactor


def main(mode, path):
    with open(path) as spec_file:  # noqa: PTH123  # Python 2.7 has no pathlib
        spec = json.load(spec_file)
    for each in case.Cases:
        if spec["messages"] and hasattr(each, "COUNT"):
            each.COUNT = spec["messages"]
    if mode == "client":
        fuzzing.startClient(spec)
    else:
        listen(spec)
    reactor.run()


def listen(spec):
    factory = fuzzing.FuzzingServerFactory(spec)
    # Behind a proxy the Host of a request names another port, which Autobahn would refuse.
    factory.externalPort = None
    reactor.listenTCP(int(os.environ["PORT"]), factory, interface=os.environ["HOST"])


if __name__ == "__main__":
    main(*sys.argv[1:])
