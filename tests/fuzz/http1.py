"""Feeds core.http1 with what libFuzzer thinks up; `make fuzz` runs it."""

import sys

import atheris

with atheris.instrument_imports(include=["plane_tx.core", "tests.fuzz", "tests.proxy.strict_http"]):
    from tests.fuzz.properties import check


def main() -> None:
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
