/* A join: the parts of one root wait in memory until a handler gets them together, once.
 *
 * PARTS parts, of which LEAST are enough when the time to wait is over; 0 to PARTS of them come, at
 * any time, and one of them perhaps twice. Two replicas of the joining component, whose commits are
 * those of messages.pml with more guards (runtime/joins.py, gather.py). A timer fires at any time
 * after it was started (lua/delayed.lua). The adversary (Faults), besides that of messages.pml:
 *   GIVE_UPS   another component makes a dead letter of the root (redis/roots.py)
 *   TWICE      a sender sends its part again, under another ID
 */

#include "stream.pml"

#ifndef PARTS
#define PARTS 2
#endif
#ifndef LEAST
#define LEAST 1
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 0
#endif
#ifndef FALLBACKS
#define FALLBACKS 0
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0
#endif
#ifndef TWICE
#define TWICE 0
#endif
#define ENTRIES 13

/* Properties. */
#define JOINED_ONCE 1      /* the handler is called at most once for a root */
#define ALL_ANSWERED 2     /* each part gets a gradient, if only an empty one, or its root is given up */
#define MEMORY_EMPTY 3     /* no record, no timer */
#define ENOUGH 4           /* the handler gets all parts, or LEAST of them after the time */
#define NOT_BOTH 5         /* what was joined does not expire, what was given up is not joined */
#define ANSWERED_ONCE 7    /* no part gets two gradients */
#define NOTHING_LOST 6     /* nothing is left unread, and what came was joined or given up */

/* States that have to be reachable. */
#define ALL_JOINED 1
#define JOINED_LEAST 2     /* by the timer */
#define JOINED_LATE 3      /* by a part that came after the time, when there were not enough */
#define EXPIRED 4
#define LATE_PART 5        /* ONCE of the join: an empty gradient */
#define PART_OF_GIVEN_UP 6 /* ONCE of the root */
#define STALE_RECORD 7     /* two parts at two replicas: one is handled again */
#define FELL_BACK_JOINED 8
#define JOINED_BEFORE_IT_EXPIRED 9
#define TOLD_AGAIN 10      /* a part came while the notice was handled: its timer finds it */
#define ONCE_ROOT 4         /* which guard failed */
#define ONCE_JOIN 5

/* An entry: a part, or in the component's inbox the timer, or the notice that the root is given up. */
#define TIMER PARTS
#define NOTICE (PARTS + 1)
byte kind[ENTRIES], added = 1;

/* The record of the join in memory: gather.Gathering. */
#define ABSENT 0
#define WAITS 64           /* it exists; with the parts that came as bits */
#define LATE 32            /* the time to wait is over */
#define CAME(record) ((record) & 31)
#define COUNT(set) (((set) & 1) + ((set) >> 1 & 1) + ((set) >> 2 & 1))

typedef Server {
    short stored, done, pel[3];
    byte last;
    bool group = true;     /* it is never destroyed here */
    byte record;
    bool timer;
    bool ended_join, ended_root; /* zset of the tokens ROOT KEY, and ROOT */
    byte sent;             /* parts that their owners have sent */
    bool joined, given_up;
    short parts;           /* entries that are parts */
    short held;            /* those in the record */
    short answered;        /* those with a gradient, if only an empty one */
    short told             /* those whose sender was told afterwards that the root is given up */
}
Server srv, past;
bool has_past;

#define IDLE 0
#define HELD 1
#define SENT 2
byte phase[2], hand[2] = NONE, read[2], as[2];
/* What is committed. */
#define HANDLED 0
#define OF_JOINED 1        /* joins.late of a root that was joined: refuse */
#define OF_GIVEN_UP 2      /* joins.late of a root that was given up: tell */

byte flying = NONE, flying_read, flying_as;

byte crashes = CRASHES, losses = LOSSES, takeovers = TAKEOVERS, fallbacks = FALLBACKS;
byte give_ups = GIVE_UPS, twice = TWICE;
bool ending;

inline XADD(what) {
    assert(added < ENTRIES);
    kind[added] = what;
    srv.stored = WITH(srv.stored, added);
    added++
}

inline copy(to, from) {
    to.stored = from.stored; to.done = from.done; to.last = from.last; to.group = from.group;
    to.pel[0] = from.pel[0]; to.pel[1] = from.pel[1]; to.pel[DEAD] = from.pel[DEAD];
    to.record = from.record; to.timer = from.timer; to.ended_join = from.ended_join;
    to.ended_root = from.ended_root; to.sent = from.sent; to.joined = from.joined;
    to.given_up = from.given_up; to.answered = from.answered; to.told = from.told; to.parts = from.parts;
    to.held = from.held
}

inline forget_past() {
    past.stored = 0; past.done = 0; past.last = 0; past.pel[0] = 0;
    past.pel[1] = 0; past.pel[DEAD] = 0; past.record = 0; past.timer = 0; past.ended_join = 0;
    past.ended_root = 0; past.sent = 0; past.joined = 0; past.given_up = 0;
    past.answered = 0; past.told = 0; past.parts = 0; past.held = 0
}

/* A dead letter that gives the root up, and its notices: to the owners of the parts that were sent,
 * and to this component. */
inline give_up() {
    srv.given_up = true; srv.told = srv.told | srv.parts;
    XADD(NOTICE)
}

/* The handler is called with these parts; it answers each. */
inline join(entries) {
    HOLDS(JOINED_ONCE, !srv.joined);
    HOLDS(NOT_BOTH, !srv.ended_root);
    HOLDS(ANSWERED_ONCE, (srv.answered & (entries)) == 0);
    srv.joined = true; srv.answered = srv.answered | (entries);
    srv.record = ABSENT; srv.held = 0; srv.timer = false;
#ifndef NO_END
    srv.ended_join = true
#endif
}

#define IS_PART(entry) (kind[entry] < PARTS)
#define COMPLETES(record) (COUNT(CAME(record)) + 1 == PARTS || \
    (((record) & LATE) && COUNT(CAME(record)) + 1 >= LEAST))

#define EXPIRES(seen) (seen != ABSENT && (LEAST == PARTS || (seen & LATE)))

inline write_part(entry, seen, attempt) {           /* joins.add, or joins.late */
    if
    :: attempt == OF_GIVEN_UP -> srv.told = WITH(srv.told, entry)
    :: attempt == OF_JOINED || (attempt == HANDLED && HAS(CAME(seen), kind[entry])) ->
        HOLDS(ANSWERED_ONCE, !HAS(srv.answered, entry)); /* joins.refuse */
#ifndef NO_LATE_ANSWER
        srv.answered = WITH(srv.answered, entry)
#endif
    :: attempt == HANDLED && !HAS(CAME(seen), kind[entry]) && COMPLETES(seen) ->
        if
        :: seen & LATE -> REACHED(JOINED_LATE)
        :: else -> HOLDS(ENOUGH, COUNT(srv.sent) == PARTS)
        fi;
        join(WITH(srv.held, entry))
    :: else ->
        if
        :: seen == ABSENT -> srv.timer = true; srv.held = 0
        :: else
        fi;
        srv.record = WITH(seen, kind[entry]) | WAITS; srv.held = WITH(srv.held, entry)
    fi
}

inline write_timer(seen) {                          /* joins.time_over */
    if
    :: seen == ABSENT
    :: seen != ABSENT && EXPIRES(seen) ->
        HOLDS(NOT_BOTH, !srv.joined && !srv.ended_root); REACHED(EXPIRED); give_up()
    :: seen != ABSENT && !EXPIRES(seen) && COUNT(CAME(seen)) < LEAST ->
        srv.record = seen | LATE; srv.timer = true
    :: else ->
        REACHED(JOINED_LEAST); join(srv.held)
    fi
}

inline write_notice(seen) {                         /* work._give_up_root, joins.give_up */
    if
    :: seen != ABSENT ->                            /* a sender may have handled its notice before */
#ifndef TELLS_NOBODY
        srv.told = srv.told | srv.held;
#endif
        srv.record = ABSENT; srv.held = 0; srv.timer = false
    :: else                                         /* a part may come meanwhile: its timer stays */
    fi;
#ifdef STOPS_ALL
    srv.timer = false;
#endif
    srv.ended_root = true
}

/* Which guards a commit has. What the expiry of parts gives up is a dead letter, which requires
 * nothing that was read; a notice requires the records that it has found. */
#ifdef NO_ONCE_ROOT
#define PART_GUARDS_ROOT(attempt) false
#else
#define PART_GUARDS_ROOT(attempt) (attempt != OF_GIVEN_UP)
#endif
#ifdef TIMER_UNGUARDED
#define TIMER_GUARDS_ROOT(seen, attempt) false
#else
#define TIMER_GUARDS_ROOT(seen, attempt) (seen != ABSENT && attempt == HANDLED)
#endif
#ifdef NO_ONCE_JOIN
#define PART_GUARDS_JOIN(attempt) false
#else
#define PART_GUARDS_JOIN(attempt) (attempt == HANDLED)
#endif
#ifdef EXPIRY_UNGUARDED
#define TIMER_GUARDS_JOIN(seen, attempt) false
#else
#define TIMER_GUARDS_JOIN(seen, attempt) (EXPIRES(seen) && attempt == HANDLED)
#endif
#define GUARDS_ROOT(entry, seen, attempt) \
    (IS_PART(entry) -> PART_GUARDS_ROOT(attempt) : \
    (kind[entry] == TIMER && TIMER_GUARDS_ROOT(seen, attempt)))
#define GUARDS_JOIN(entry, seen, attempt) \
    (IS_PART(entry) -> PART_GUARDS_JOIN(attempt) : \
    (kind[entry] == TIMER && TIMER_GUARDS_JOIN(seen, attempt)))
#define GUARDS_RECORD(entry, seen, attempt) (attempt == HANDLED && \
    (kind[entry] == TIMER -> !EXPIRES(seen) : (kind[entry] != NOTICE || seen != ABSENT)))

/* lua/commit.lua, of a part, of the timer, or of the notice. */
inline commit(entry, seen, attempt) {
    reply = OK;
#ifndef NO_PENDING
    if                                              /* PENDING stream done group entry */
    :: !OWED(entry) || HAS(srv.done, entry) -> XACK(entry); reply = GONE
    :: else
    fi;
#endif
    if                                              /* ONCE ended ROOT: joins._unless_ended */
    :: reply == OK && GUARDS_ROOT(entry, seen, attempt) && srv.ended_root ->
        REACHED(PART_OF_GIVEN_UP); reply = ONCE_ROOT
    :: else
    fi;
    if                                              /* ONCE ended ROOT KEY */
    :: reply == OK && GUARDS_JOIN(entry, seen, attempt) && srv.ended_join ->
        REACHED(LATE_PART); reply = ONCE_JOIN
    :: else
    fi;
    if                                              /* SAME or ABSENT memory ROOT KEY */
#ifndef NO_SAME
    :: reply == OK && GUARDS_RECORD(entry, seen, attempt) && srv.record != seen ->
        REACHED(STALE_RECORD); reply = STALE
#endif
    :: else
    fi;
    if
    :: reply == OK ->
        XACK(entry); srv.done = WITH(srv.done, entry);
        if
        :: kind[entry] == NOTICE -> write_notice(seen)
        :: kind[entry] == TIMER && attempt == HANDLED -> write_timer(seen)
        :: kind[entry] == TIMER && attempt == OF_GIVEN_UP ->
            REACHED(TOLD_AGAIN); XADD(NOTICE)       /* joins.late: _tell */
        :: else -> write_part(entry, seen, attempt)
        fi
    :: else
    fi
}

inline let_go(me) {
    hand[me] = NONE; read[me] = 0; as[me] = HANDLED; phase[me] = IDLE
}

inline received(me) {
    XACK(hand[me]); srv.pel[me] = WITH(srv.pel[me], hand[me]); phase[me] = HELD
}

inline disconnect(me) {
    if
    :: phase[me] == SENT && flying == NONE ->
        flying = hand[me]; flying_read = read[me]; flying_as = as[me]
    :: else
    fi;
    let_go(me)
}

inline pick(number, set) {
    number = 0;
    do
    :: HAS(set, number) -> break
    :: (set) >> (number + 1) -> number++
    od
}

/* As in messages.pml. */
active [2] proctype Replica() {
    byte me = _pid, entry, reply;
end:
    do
    :: atomic { phase[me] == IDLE && UNREAD ->
        srv.last++;
        do
        :: !HAS(srv.stored, srv.last) -> srv.last++
        :: else -> break
        od;
        hand[me] = srv.last; received(me) }
    :: atomic { phase[me] == IDLE && (srv.pel[me] | srv.pel[DEAD]) ->
        pick(entry, srv.pel[me] | srv.pel[DEAD]); hand[me] = entry; entry = 0; received(me) }
    :: atomic { takeovers && phase[me] == IDLE && srv.pel[1 - me] ->
        takeovers--; pick(entry, srv.pel[1 - me]); hand[me] = entry; entry = 0; received(me) }
    :: atomic { phase[me] == HELD -> read[me] = srv.record; phase[me] = SENT }
    :: atomic { phase[me] == SENT ->
        commit(hand[me], read[me], as[me]);
        if                                          /* loop._is_settled, loop._give_up */
        :: reply == STALE -> phase[me] = HELD
#ifdef EXPIRY_SKIPPED
        :: reply == ONCE_ROOT && kind[hand[me]] == TIMER && EXPIRES(read[me]) ->
            XACK(hand[me]); srv.done = WITH(srv.done, hand[me]); let_go(me)
        :: reply == ONCE_ROOT && !(kind[hand[me]] == TIMER && EXPIRES(read[me])) ->
            as[me] = OF_GIVEN_UP
#else
        :: reply == ONCE_ROOT -> as[me] = OF_GIVEN_UP
#endif
        :: reply == ONCE_JOIN && IS_PART(hand[me]) -> as[me] = OF_JOINED
        :: reply == ONCE_JOIN && !IS_PART(hand[me]) ->
            REACHED(JOINED_BEFORE_IT_EXPIRED);
            XACK(hand[me]); srv.done = WITH(srv.done, hand[me]); let_go(me) /* loop._skip */
        :: reply == OK || reply == GONE -> let_go(me)
        fi;
        reply = 0 }
    od
}

/* The owners of the parts, lua/delayed.lua, and the commit on a connection that broke. */
active proctype Network() {
    byte part, reply;
end:
    do
    :: atomic { srv.sent != UP_TO(PARTS - 1) && !ending ->
        pick(part, UP_TO(PARTS - 1) & ~srv.sent);
        srv.sent = WITH(srv.sent, part); srv.parts = WITH(srv.parts, added); XADD(part); part = 0 }
    :: atomic { srv.timer -> srv.timer = false; XADD(TIMER) }
    :: atomic { flying != NONE ->
        commit(flying, flying_read, flying_as);
        flying = NONE; flying_read = 0; flying_as = HANDLED; reply = 0 }
    od
}

active proctype Faults() {
    byte me;
    do
    :: atomic { crashes -> crashes--; pick(me, 3);
        disconnect(me);
        srv.pel[DEAD] = srv.pel[DEAD] | srv.pel[me]; srv.pel[me] = 0;
        past.pel[DEAD] = past.pel[DEAD] | past.pel[me]; past.pel[me] = 0; me = 0 }
    :: atomic { losses -> losses--; pick(me, 3); disconnect(me); me = 0 }
    :: atomic { give_ups -> give_ups--; give_up() }
    :: atomic { twice && srv.sent -> twice--; pick(me, srv.sent);
        srv.parts = WITH(srv.parts, added); XADD(me); me = 0 }
    :: atomic { fallbacks && !has_past -> has_past = true; copy(past, srv) }
    :: atomic { fallbacks && has_past -> fallbacks--; has_past = false;
        if
        :: past.joined -> REACHED(FELL_BACK_JOINED)
        :: else
        fi;
        copy(srv, past); forget_past(); let_go(0); let_go(1);
        flying = NONE; flying_read = 0; flying_as = HANDLED }
    :: ending = true; break                         /* parts that did not come by now never do */
    od
}

active proctype Judge() {
    timeout ->
    atomic {
        HOLDS(NOTHING_LOST, phase[0] == IDLE && phase[1] == IDLE && !UNREAD);
        HOLDS(NOTHING_LOST, !srv.sent || srv.joined || srv.given_up);
        HOLDS(ALL_ANSWERED, (srv.parts & ~(srv.answered | srv.told)) == 0);
        HOLDS(MEMORY_EMPTY, srv.record == ABSENT && !srv.timer);
        if
        :: srv.joined && srv.sent == UP_TO(PARTS - 1) -> REACHED(ALL_JOINED)
        :: else
        fi
    }
}
