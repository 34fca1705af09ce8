"""The one truth about sessions while the server runs: who exists, under which names."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Iterator

import attrs

from plane_tx.core.errors import FailedToAcquireKey
from plane_tx.core.estimates import Estimates
from plane_tx.core.grants import Grants
from plane_tx.core.lifecycle import is_live
from plane_tx.core.model import (
    Address,
    Key,
    Ready,
    Session,
    State,
    Status,
    StatusEntry,
    Waiting,
)
from plane_tx.core.pulls import Pulling
from plane_tx.core.use import Traffic, Use, UseKind

#: Where a session stands among all: when it was made; its id decides within one moment.
Place = tuple[float, str]

# A member of an enumeration takes longer to find than to compare.
_LEASE = UseKind.LEASE

#: How many ended sessions are remembered, so that their links and pages can still say why.
ENDED_KEPT = 1000

#: How long they are remembered.
ENDED_KEPT_SECONDS = 7 * 24 * 3600.0


def place_of(session: Session) -> Place:
    """Where this session stands among all."""
    return session.created_at, session.id


class Registry:
    """Sessions by id, key, token and subdomain; every index is changed here and only here.

    A key and a subdomain are held from `add` until the session is terminated; a token leads to
    its session until that is forgotten, so that an old link learns how its session ended; it
    may be revoked, or expire, before.
    """

    def __init__(self, ended_kept: int = ENDED_KEPT) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_key: dict[Key, Session] = {}
        self._by_subdomain: dict[str, Session] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._ended_kept = ended_kept
        self._by_user: dict[str, set[str]] = {}
        #: How many sessions there are of each status, ended and not yet forgotten ones included.
        self.statuses: Counter[Status] = Counter()
        #: What passed through all sessions there ever were.
        self.traffic = Traffic()
        #: How many uses of each kind go on.
        self.uses: Counter[UseKind] = Counter()
        self._places: list[Place] = []
        self.grants = Grants()
        #: How long boots took, in earlier runs as well.
        self.estimates = Estimates()
        #: What the journal does not know yet: sessions that were used, and those forgotten.
        self._used: set[Session] = set()
        self._forgotten: list[str] = []

    def __repr__(self) -> str:
        return (
            f"<Registry [Sessions: {len(self._by_key)} live, {len(self._ended)} ended | "
            f"Tokens: {len(self.grants)}]>"
        )

    def __iter__(self) -> Iterator[Session]:
        return iter(tuple(self._by_id.values()))

    def ids(self) -> Iterator[str]:
        """The id of each session, of the one that was taken in last first."""
        return reversed(tuple(self._by_id))

    @property
    def live_count(self) -> int:
        """How many sessions hold a key: all that are not terminated."""
        return len(self._by_key)

    def of_user(self, user: str) -> list[Session]:
        """The sessions that are not terminated and were spawned for `user`."""
        return [self._by_id[session_id] for session_id in self._by_user.get(user, ())]

    def get(self, session_id: str) -> Session | None:
        """The session of this id, live or ended and not yet forgotten."""
        return self._by_id.get(session_id)

    def before(self, place: Place | None, most: int) -> list[Session]:
        """The `most` sessions that were made last before `place`, the newest first.

        None stands for now. Costs what is returned, not what exists.
        """
        end = len(self._places) if place is None else bisect_left(self._places, place)
        return [self._by_id[name] for _, name in reversed(self._places[max(end - most, 0) : end])]

    def holder(self, key: Key) -> Session | None:
        """The session that holds `key`, which may be on its way out."""
        return self._by_key.get(key)

    def add(self, session: Session, state: State, now: float) -> None:
        """Take a new session in, with its id, key and subdomain.

        Raises `FailedToAcquireKey` when one of the three is taken, having changed nothing.
        """
        if session.id in self._by_id:
            raise FailedToAcquireKey(f"the id {session.id!r} is taken: choose another, or none")
        if session.key in self._by_key:
            raise FailedToAcquireKey(f"the key {session.key.name!r} is held by another session")
        subdomain = session.spec.subdomain
        if subdomain is not None and subdomain in self._by_subdomain:
            raise FailedToAcquireKey(f"the subdomain {subdomain!r} is taken by another session")
        session.history.append(StatusEntry(state, now))
        self._by_key[session.key] = session
        if subdomain is not None:
            self._by_subdomain[subdomain] = session
        if session.user is not None:
            self._by_user.setdefault(session.user, set()).add(session.id)
        self._place(session)

    def remember(self, session: Session) -> None:
        """Take in a session of an earlier run that had ended, the longest ended one first."""
        self._place(session)
        self._keep_ended(session)

    def recall(self, session: Session) -> None:
        """Take in a session of an earlier run that had not ended, as it was, as far as we know.

        Raises `FailedToAcquireKey` as `add` does.
        """
        last = session.history.pop()
        try:
            self.add(session, last.state, last.at)
        except FailedToAcquireKey:
            session.history.append(last)
            raise
        session.unconfirmed = session.adopted = True

    def confirm(self, session: Session, address: Address, now: float) -> None:
        """The engine runs a recalled session, at this address, which may be another than it was.

        Nobody knows who used it while we were away, so that its idle clock begins anew.
        """
        session.unconfirmed = False
        last = session.history[-1]
        if isinstance(last.state, Waiting | Ready):
            session.history[-1] = StatusEntry(attrs.evolve(last.state, address=address), last.at)
        if session.status is Status.READY and not session.holds:
            session.idle_since = now

    def record(self, session: Session, state: State, now: float) -> None:
        """Write the state that `advance` made into the session's history and the indexes."""
        self.statuses[session.status] -= 1
        self.statuses[state.status] += 1
        session.history.append(StatusEntry(state, now))
        if state.status is Status.READY:
            self._now_ready(session, now)
        if state.status is Status.TERMINATED:
            self._retire(session)

    def start_began(self, session: Session, now: float) -> None:
        """Note when the container or process of a session, made by then, was told to start."""
        session.start_began = now

    def pull_came_on(self, session: Session, pulling: Pulling) -> None:
        """Note how far the pull of the session's image has come."""
        session.pulling = pulling

    def begin_use(self, session: Session, use: Use) -> None:
        """Count `use` among the session's uses: it is in use until the last that holds has ended.

        A passive one holds nothing, and that it began moves no clock: see `touch`.
        """
        session.uses.add(use)
        self.uses[use.kind] += 1
        use.traffic = (session.traffic, self.traffic)
        if use.passive:
            session.passives += 1
        else:
            session.idle_since = None
        if use.kind is not _LEASE:
            if not session.claimed:
                session.claimed = True
                self._used.add(session)
            self.grants.opened(use.visit.token)
        else:
            session.leases += 1

    def touch(self, session: Session, use: Use, now: float) -> None:
        """Count what passed over a passive use as use: the idle clock, if it runs, begins anew.

        Where it does not run, nothing has to be noted: it will start later, or never.
        """
        if session.idle_since is not None and is_live(session.status):
            session.idle_since = session.last_used = now
            session.last_use = use
            self._used.add(session)

    def end_use(self, session: Session, use: Use, now: float) -> bool:
        """Take `use` away; True when it was the last to hold. A second call changes nothing.

        The end of a passive use is no use, and moves no clock.
        """
        if use not in session.uses:
            return False
        session.uses.remove(use)
        use.cut = None  # it would keep the connection, as long as the session remembers the use
        self.uses[use.kind] -= 1
        if use.kind is not _LEASE:
            self.grants.closed(use.visit.token, now)
        else:
            session.leases -= 1
        if use.passive:
            session.passives -= 1
            return False
        session.last_use, session.last_used = use, now
        self._used.add(session)
        if len(session.uses) > session.passives:
            return False
        if session.status is Status.READY:
            session.idle_since = now
        return True

    def forget_old(self, now: float, most: int) -> int:
        """Forget so many at most of the sessions that ended too long ago; how many it were."""
        for forgotten in range(most):
            oldest = next(iter(self._ended), None)
            if oldest is None or now - self._by_id[oldest].history[-1].at < ENDED_KEPT_SECONDS:
                return forgotten
            self._forget_oldest()
        return most

    def take_used(self, most: int) -> list[Session]:
        """So many of the sessions at most that were used since they were taken here."""
        return [self._used.pop() for _ in range(min(most, len(self._used)))]

    def take_forgotten(self) -> list[str]:
        """The ids that were forgotten since they were taken here."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _now_ready(self, session: Session, now: float) -> None:
        if not session.holds:
            session.idle_since = now
        if not session.adopted:  # else our absence would count as a part of its boot
            self.estimates.learn(session)

    def _place(self, session: Session) -> None:
        self.statuses[session.status] += 1
        self._by_id[session.id] = session
        insort(self._places, place_of(session))

    def _retire(self, session: Session) -> None:
        del self._by_key[session.key]
        session.idle_since = None
        if session.spec.subdomain is not None:
            del self._by_subdomain[session.spec.subdomain]
        if session.user is not None:
            mine = self._by_user[session.user]
            mine.discard(session.id)
            if not mine:
                del self._by_user[session.user]
        self._keep_ended(session)

    def _keep_ended(self, session: Session) -> None:
        self._ended[session.id] = None
        while len(self._ended) > self._ended_kept:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        session_id, _ = self._ended.popitem(last=False)
        session = self._by_id.pop(session_id)
        self._used.discard(session)
        self._forgotten.append(session_id)
        self.statuses[session.status] -= 1
        del self._places[bisect_left(self._places, place_of(session))]
        self.grants.forget_session(session_id)
