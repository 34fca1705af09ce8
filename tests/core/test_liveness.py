"""A client that says something lives; one that answers no two pings does not."""

from plane_tx.core.liveness import Liveness, Next

SILENT = [Next.WAIT, Next.PING, Next.PING, Next.GIVE_UP]


def intervals(liveness, count, *, deaf=False, full=False, can_ping=True):
    """What is due at 30, 60, 90 ... seconds, with nothing heard between."""
    return [
        liveness.due(30.0 * number, deaf=deaf, full=full, can_ping=can_ping)
        for number in range(1, count + 1)
    ]


def test_a_silent_client_is_pinged_twice_and_given_up():
    liveness = Liveness()

    due = intervals(liveness, 4)

    assert due == SILENT
    assert liveness.pings == 2


def test_whoever_says_something_begins_anew():
    liveness = Liveness()
    intervals(liveness, 3)

    liveness.heard = True

    assert intervals(liveness, 4) == SILENT


def test_nothing_is_proved_while_nothing_is_read():
    liveness = Liveness()
    intervals(liveness, 3)

    due = intervals(liveness, 5, deaf=True)

    assert due == [Next.WAIT] * 5


def test_where_no_ping_can_stand_none_is_counted():
    liveness = Liveness()

    waiting = intervals(liveness, 5, can_ping=False)

    assert waiting == [Next.WAIT] * 5
    assert intervals(liveness, 3) == [Next.PING, Next.PING, Next.GIVE_UP]


def test_whoever_reads_nothing_is_given_up_though_no_ping_can_stand():
    due = intervals(Liveness(), 4, full=True, can_ping=False)

    assert due == [Next.WAIT, Next.WAIT, Next.WAIT, Next.GIVE_UP]


def test_the_round_trip_of_the_last_ping_is_known():
    liveness = Liveness()

    intervals(liveness, 3)

    assert liveness.round_trip(90.75) == 0.75
