"""What the fuzzer found worth keeping, once more without it."""

from pathlib import Path

from tests.fuzz.properties import check

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


def objection(case):
    """What does not hold for `case`; "" when all does."""
    try:
        check(case)
    except AssertionError as error:
        return str(error)
    return ""


def test_the_corpus_is_small():
    sizes = [file.stat().st_size for file in CORPUS]

    assert 50 < len(sizes) < 200
    assert max(sizes) < 4096


def test_all_that_must_hold_holds_for_the_whole_corpus():
    objections = {file.name: objection(file.read_bytes()) for file in CORPUS}

    assert {name: said for name, said in objections.items() if said} == {}
