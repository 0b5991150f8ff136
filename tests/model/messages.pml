/* Messages of a component: received, handled, committed once.
 *
 * Roots are opened by a client. The component handles FORWARD: it stores a record in its memory and
 * sends on; what comes back is a GRADIENT for the same group, which takes the record and has the
 * effect. The component that answers in between is left out: its commit has the same guards.
 *
 * Two replicas; each holds one message. The adversary (Faults) is bounded by the numbers below:
 *   CRASHES    kill -9 at any point: the replica, its hand and its connection are gone
 *   LOSSES     the connection breaks: the replica goes on, the commit on its way is lost or is
 *              applied at any later time, and nobody gets the answer
 *   TAKEOVERS  XCLAIM of a message whose owner lives, but is frozen beyond its lease: a zombie
 *   TWICE      a GRADIENT that is in the stream twice
 *   DESTROYS   XGROUP DESTROY;  TRIMS  lua/trim.lua
 *   FALLBACKS  the server falls back to any earlier state: everysec, or a failover
 *   RAISES     a handler raises, after which redelivery.py tries again (MAX_DELIVERIES)
 */

#include "stream.pml"

#ifndef ROOTS
#define ROOTS 2
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
#ifndef TWICE
#define TWICE 0
#endif
#ifndef DESTROYS
#define DESTROYS 0
#endif
#ifndef TRIMS
#define TRIMS 0
#endif
#ifndef FALLBACKS
#define FALLBACKS 0
#endif
#ifndef RAISES
#define RAISES 0
#endif
#define MAX_DELIVERIES 2
#define ENTRIES 13

/* Properties. */
#define EFFECT_ONCE 1      /* each effect at most once in the surviving history */
#define NOTHING_LOST 2     /* each opened root ends in its effect, or was given up by a dead letter */
#define MEMORY_EMPTY 3     /* no record is left */
#define RECORD_FIRST 4     /* a gradient finds the record of its forward: both or none committed */

/* States that have to be reachable. */
#define ALL_DONE 1
#define ZOMBIE_COMMITS 2   /* a commit on a lost connection is applied */
#define FOUND_MARK 3       /* PENDING holds and the done mark says no */
#define FELL_BACK_WITH_EFFECT 4
#define GAVE_UP 5
#define STALE_READ 6
#define TRIMMED 7
#define SENT_TWICE 8       /* ONCE refuses the second attempt of a client */

/* TYPE of an entry. */
#define FORWARD 1
#define GRADIENT 2
#define NOTICE 3           /* of a root that was given up, in the component's inbox: redis/roots.py */

byte type[ENTRIES], root_of[ENTRIES];
byte added = 1;            /* the next entry's number; never goes back */

typedef Server {
    bool group;
    byte last;             /* last-delivered-id of the group */
    short stored;
    short pel[3];          /* pending entries of replica 0, of replica 1, and of the dead */
    short done;            /* done marks */
    byte sent;             /* tokens of the client's commits: ONCE */
    byte memory;           /* roots with a record */
    byte forwarded, home;  /* effects */
    byte dead              /* roots with a dead letter */
}
Server srv, past;
bool has_past;
byte delivered[ENTRIES];   /* times-delivered */

/* A replica: what it holds, how far it is, and what it has read of memory. */
#define IDLE 0
#define HELD 1             /* received; its death now is as one before the commit was sent */
#define ACKNOWLEDGED 3     /* by a mutation */
#define SENT 2             /* the handler has read memory and returned; the commit is on its way */
byte hand[2] = NONE, phase[2];
bool seen[2];              /* whether the record was there when the handler read it */
byte letter[2];            /* what is committed: */
#define HANDLED 0
#define WITH_ROOT 1        /* a dead letter that gives the root up */
#define WITHOUT_ROOT 2     /* a dead letter of a StrayMessage */

/* A commit that was sent on a connection that broke: what it acknowledges, what was read. */
byte flying = NONE, flying_letter;
bool flying_seen;

/* The client's commits that open the roots. */
byte confirmed;            /* roots whose answer the client has */
byte flying_opens;         /* roots of which an attempt was sent on a connection that broke */

/* What is left of the adversary. */
byte crashes = CRASHES, losses = LOSSES, takeovers = TAKEOVERS, twice = TWICE;
byte destroys = DESTROYS, trims = TRIMS, fallbacks = FALLBACKS, raises = RAISES;

inline XADD(what, whose) {
    assert(added < ENTRIES);
    type[added] = what;
    root_of[added] = whose;
    srv.stored = WITH(srv.stored, added);
    added++
}

inline copy(to, from) {
    to.group = from.group; to.last = from.last; to.stored = from.stored;
    to.pel[0] = from.pel[0]; to.pel[1] = from.pel[1]; to.pel[DEAD] = from.pel[DEAD];
    to.done = from.done; to.sent = from.sent; to.memory = from.memory;
    to.forwarded = from.forwarded; to.home = from.home; to.dead = from.dead
}

/* lua/commit.lua, of a message: the guards in their order, then the writes. */
inline commit(entry, read, as) {
    reply = OK;
#if !defined(NO_PENDING) && !defined(ACK_FIRST)
    if                                              /* PENDING stream done group entry */
    :: !OWED(entry) -> reply = GONE
    :: else
    fi;
#endif
#ifndef NO_DONE
    if                                              /* ... and ZSCORE done entry */
    :: reply == OK && HAS(srv.done, entry) -> REACHED(FOUND_MARK); XACK(entry); reply = GONE
    :: else
    fi;
#endif
#ifndef NO_SAME
    if                                              /* SAME hash field text, ABSENT hash field */
    :: reply == OK && as == HANDLED && type[entry] == GRADIENT && !HAS(srv.memory, root_of[entry])
        -> REACHED(STALE_READ); reply = STALE
    :: else
    fi;
#endif
    if
    :: reply == OK ->                               /* 2. Only write. */
        XACK(entry); srv.done = WITH(srv.done, entry);
#ifndef TWO_COMMITS
        writes(entry, read, as)
#endif
    :: else
    fi
}

inline writes(entry, read, as) {
    if
    :: as == WITH_ROOT ->                           /* runtime/dead_letters.py */
        srv.dead = WITH(srv.dead, root_of[entry]); REACHED(GAVE_UP);
#ifndef NO_NOTICE
        XADD(NOTICE, root_of[entry])
#endif
    :: as == HANDLED && type[entry] == FORWARD ->   /* context.memory.put, and the reply */
        HOLDS(EFFECT_ONCE, !HAS(srv.forwarded, root_of[entry]));
        srv.forwarded = WITH(srv.forwarded, root_of[entry]);
#ifndef LOSE_RECORD
        srv.memory = WITH(srv.memory, root_of[entry]);
#endif
        XADD(GRADIENT, root_of[entry])
    :: as == HANDLED && type[entry] == GRADIENT ->  /* context.memory.pop, and the effect */
        HOLDS(EFFECT_ONCE, !HAS(srv.home, root_of[entry]));
        HOLDS(RECORD_FIRST, HAS(srv.memory, root_of[entry]));
        srv.home = WITH(srv.home, root_of[entry]);
        srv.memory = LESS(srv.memory, root_of[entry])
    :: as == HANDLED && type[entry] == NOTICE && read -> /* context.forget_root */
        srv.memory = LESS(srv.memory, root_of[entry])
    :: else
    fi
}

/* The client's commit: ONCE sent token, and SEND. */
inline open(root) {
    if
#ifndef NO_ONCE
    :: HAS(srv.sent, root) -> REACHED(SENT_TWICE)
#endif
    :: else ->
        srv.sent = WITH(srv.sent, root);
        XADD(FORWARD, root)
    fi
}

/* A number of a set, any of them. */
inline pick(number, set) {
    number = 0;
    do
    :: HAS(set, number) -> break
    :: (set) >> (number + 1) -> number++
    od
}

inline first(number, set) {
    number = 0;
    do
    :: HAS(set, number) -> break
    :: else -> number++
    od
}

/* lua/ensure_group.lua: starts at 0, and skips what is marked at the head of the stream. */
inline ensure_group() {
    srv.group = true;
#ifdef GROUP_AT_END
    srv.last = added - 1;                           /* XGROUP CREATE ... $ */
#else
    srv.last = 0;
    do
    :: srv.last + 1 < added && (HAS(srv.done, srv.last + 1) || !HAS(srv.stored, srv.last + 1)) ->
        srv.last++
    :: else -> break
    od
#endif
}

/* The owner in the PEL, and loop._proceed: a message that was delivered too often. */
inline received(me) {
    XACK(hand[me]);
#ifndef ACK_FIRST                                   /* XREADGROUP ... NOACK */
    srv.pel[me] = WITH(srv.pel[me], hand[me]);
#endif
    phase[me] = HELD;
#if RAISES
    delivered[hand[me]]++;
    if
    :: delivered[hand[me]] > MAX_DELIVERIES && type[hand[me]] != NOTICE ->
        letter[me] = WITH_ROOT; phase[me] = SENT
    :: else
    fi
#endif
}

inline let_go(me) {
    hand[me] = NONE; seen[me] = 0; letter[me] = HANDLED; phase[me] = IDLE
}

/* The connection of a replica breaks: what was sent may be applied later. */
inline disconnect(me) {
    if
    :: phase[me] == SENT && flying == NONE ->
        flying = hand[me]; flying_seen = seen[me]; flying_letter = letter[me]
    :: else
    fi;
    let_go(me)
}

/* runtime/replica.py and loop.py: one message from XREADGROUP or XCLAIM to the answer. */
active [2] proctype Replica() {
    byte me = _pid, entry, reply;
end:
    do
    :: atomic { phase[me] == IDLE && UNREAD ->      /* XREADGROUP ... > */
        srv.last++;
        do
        :: !HAS(srv.stored, srv.last) -> srv.last++
        :: else -> break
        od;
        hand[me] = srv.last; received(me) }
    :: atomic { phase[me] == IDLE && srv.group && srv.pel[me] ->
        pick(entry, srv.pel[me]);                   /* redelivery.py: recover, and retries */
        hand[me] = entry; entry = 0; received(me) }
    :: atomic { phase[me] == IDLE && srv.group && srv.pel[DEAD] ->
        pick(entry, srv.pel[DEAD]);                 /* lua/heartbeat.lua finds it; XCLAIM */
        hand[me] = entry; entry = 0; received(me) }
    :: atomic { takeovers && phase[me] == IDLE && srv.group && srv.pel[1 - me] ->
        takeovers--; pick(entry, srv.pel[1 - me]);
        hand[me] = entry; entry = 0; received(me) }
    :: atomic { phase[me] == IDLE && !srv.group ->  /* NOGROUP: EmptiedServer, setup.py */
        ensure_group() }
    :: atomic { phase[me] == HELD ->                /* loop._attempt */
        seen[me] = HAS(srv.memory, root_of[hand[me]]);
        letter[me] = (type[hand[me]] == GRADIENT && !seen[me] -> WITHOUT_ROOT : HANDLED);
        phase[me] = SENT }
    :: atomic { raises && phase[me] == HELD ->      /* loop._retry_later */
        raises--;
        if
        :: delivered[hand[me]] >= MAX_DELIVERIES -> letter[me] = WITH_ROOT; phase[me] = SENT
        :: else -> let_go(me)
        fi }
    :: atomic { phase[me] == SENT ->                /* the server, and its answer */
        commit(hand[me], seen[me], letter[me]);
        if
        :: reply == STALE -> phase[me] = HELD
#ifdef TWO_COMMITS
        :: reply == OK -> phase[me] = ACKNOWLEDGED
#endif
        :: else -> let_go(me)
        fi;
        reply = 0 }
#ifdef TWO_COMMITS                                  /* the effects follow in a commit of their own */
    :: atomic { phase[me] == ACKNOWLEDGED -> writes(hand[me], seen[me], letter[me]); let_go(me) }
#endif
    od
}

active proctype Network() {
    byte root, reply;
end:
    do
    :: atomic { flying != NONE ->
        commit(flying, flying_seen, flying_letter);
        if
        :: reply == OK -> REACHED(ZOMBIE_COMMITS)
        :: else
        fi;
        flying = NONE; flying_seen = 0; flying_letter = HANDLED; reply = 0 }
    :: atomic { confirmed != UP_TO(ROOTS - 1) ->
        first(root, ~confirmed); open(root); confirmed = WITH(confirmed, root); root = 0 }
    :: atomic { losses && confirmed != UP_TO(ROOTS - 1) ->
        losses--; first(root, ~confirmed); flying_opens = WITH(flying_opens, root); root = 0 }
    :: atomic { flying_opens -> pick(root, flying_opens); open(root);
        flying_opens = LESS(flying_opens, root); root = 0 }
    od
}

inline forget_past() {
    past.group = 0; past.last = 0; past.stored = 0; past.pel[0] = 0; past.pel[1] = 0;
    past.pel[DEAD] = 0; past.done = 0; past.sent = 0; past.memory = 0; past.forwarded = 0;
    past.home = 0; past.dead = 0
}

/* lua/trim.lua, with as few entries to keep as it may: all before the oldest that is owed. */
inline trim() {
    if
#ifndef TRIM_DESTROYED
    :: !srv.group                                   /* "destroyed: it will be created again" */
#endif
    :: else ->
        root = 1;
        do
        :: root < added && !HAS(srv.pel[0] | srv.pel[1] | srv.pel[DEAD], root) &&
            (root < srv.last || !srv.group) -> root++
        :: else -> break
        od;
        srv.stored = srv.stored & ~UP_TO(root - 1);
        srv.done = srv.done & ~UP_TO(root - 1);     /* forget_marks */
        if
        :: root > 1 -> REACHED(TRIMMED)
        :: else
        fi;
        root = 0
    fi
}

active proctype Faults() {
    byte me, root;
    do
    :: atomic { crashes -> crashes--; pick(me, 3);
        disconnect(me);
        srv.pel[DEAD] = srv.pel[DEAD] | srv.pel[me]; srv.pel[me] = 0;
        past.pel[DEAD] = past.pel[DEAD] | past.pel[me]; past.pel[me] = 0; me = 0 }
    :: atomic { losses -> losses--; pick(me, 3); disconnect(me); me = 0 }
    :: atomic { twice && srv.forwarded -> twice--; pick(root, srv.forwarded); XADD(GRADIENT, root); root = 0 }
    :: atomic { destroys && srv.group -> destroys--;
        srv.group = false; srv.last = 0; srv.pel[0] = 0; srv.pel[1] = 0; srv.pel[DEAD] = 0 }
    :: atomic { trims -> trims--; trim() }
    :: atomic { fallbacks && !has_past -> has_past = true; copy(past, srv) }
    :: atomic { fallbacks && has_past -> fallbacks--; has_past = false;
        if
        :: past.home -> REACHED(FELL_BACK_WITH_EFFECT)
        :: else
        fi;
        copy(srv, past); forget_past();
        let_go(0); let_go(1);                       /* all connections break; what is on its way */
        flying = NONE; flying_seen = 0; flying_letter = HANDLED; flying_opens = 0 } /* is lost */
    :: break
    od
}

/* When nothing happens any more, all work is done. */
active proctype Judge() {
    byte number;
    timeout ->
    atomic {
        HOLDS(NOTHING_LOST, phase[0] == IDLE && phase[1] == IDLE && srv.group && !UNREAD);
        HOLDS(NOTHING_LOST, (srv.sent & ~(srv.home | srv.dead)) == 0);
        HOLDS(MEMORY_EMPTY, srv.memory == 0);
        if
        :: srv.home == UP_TO(ROOTS - 1) -> REACHED(ALL_DONE)
        :: else
        fi
    }
}
