/* A model's versions: compute, commit, then apply; the log of steps, snapshots, and those who follow.
 *
 * BATCHES messages, each of which takes one step. A version is the number of the record that led to
 * it; like a token, none is given twice. Weights are the sequence of the steps that made them, so
 * that a step left out, doubled or in another order shows: WEIGHTS compares them with the log.
 * Messages are committed as in messages.pml, of which one group and its done marks are left here.
 *
 * REPLICAS replicas; WRITERS threads that take a snapshot of any of them (runtime/model/writer.py).
 * FILES: snapshots in a folder, which does not go back with the server; else pieces in Redis, which
 * do, and which expire until a commit points to them. The adversary (Faults):
 *   CRASHES    kill -9 of a replica, with its weights; LOSSES  a connection breaks, weights stay
 *   FALLBACKS  the server falls back to any earlier state, but to none before the pointer for
 *              which a file was deleted: WAITAOF, and DURABLE_S under Sentinel
 *   EXPIRES    a piece that nothing points to yet is gone
 */

#include "stream.pml"

#ifndef REPLICAS
#define REPLICAS 2
#endif
#ifndef WRITERS
#define WRITERS 1
#endif
#ifndef BATCHES
#define BATCHES 2
#endif
#ifndef SNAPSHOTS
#define SNAPSHOTS 1        /* that are begun */
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef FALLBACKS
#define FALLBACKS 0
#endif
#ifndef EXPIRES
#define EXPIRES 0
#endif
#ifndef FILES
#define FILES 0
#endif
#define VERSIONS 7

/* Properties. */
#define STEP_ONCE 1        /* each batch at most once in the surviving chain of steps */
#define WEIGHTS 2          /* what a replica holds is what the log says of its version */
#define LOADABLE 3         /* the run's version can be made from a snapshot and the log, always */
#define NOTHING_LOST 4     /* in the end each batch is in the chain, and each replica has it */
#define POINTED 5          /* what is pointed to is a version of the surviving history */

/* States that have to be reachable. */
#define ALL_DONE 1
#define STEPPED_AGAIN 2    /* a stale step is committed on top of another one */
#define LEFT_LOST_VERSION 4 /* a replica holds a version that the server lost, and reloads */
#define TWO_SNAPSHOTS 5    /* the log was trimmed */
#define STALE_POINTER 6    /* SAME of the pointers fails */
#define NOT_OF_RUN 7       /* a snapshot of a lost version is refused */
#define NOT_STORED 8       /* STORED fails */
#define READ_POINTERS_AGAIN 10 /* both snapshots were replaced while the replica loaded them */
#define ZOMBIE_STEP 9      /* a step on a connection that broke is applied */

byte before[VERSIONS], batch_of[VERSIONS], step_of[VERSIONS], truth[VERSIONS];
byte added = 1;            /* the next version */
#define NO_VERSION 15

typedef Server {
    byte pel[3];           /* entries are batches, 1 to BATCHES */
    byte stored, done, last;
    bool group;
    byte version;          /* HASH model: version */
    byte log;              /* records that are in the log */
    byte newest, older;    /* HASH model: snapshots, the pointers to two of them */
    byte pieces            /* snapshots in Redis */
}
Server srv, past;
bool has_past;
byte files = 1;            /* snapshots in the folder */
byte version_of[SNAPSHOTS + 1], placed = 1; /* a place is a number of its own: owner.unique */
#if FILES
#define SAVED files
#else
#define SAVED srv.pieces
#endif

/* A replica: runtime/model/follower.py and store.py. */
#define START 0            /* connected: Snapshotter.prepare */
#define IDLE 1
#define FOLLOW 2           /* follower._follow: the log is read */
#define NEWEST 3           /* ... and did not lead there: the version is read again */
#define RELOAD 4           /* follower.reload: the pointers are read */
#define LOAD 5             /* ... a snapshot is read, and the version */
#define REPEAT 6           /* ... the log is read */
#define SENT 7             /* the gradient is computed, the commit on its way */
#define ANSWERED 8         /* the commit was applied, the answer is on its way */
byte phase[2], hand[2] = NONE;
byte version[2] = NO_VERSION, weights[2], at[2]; /* at: the entry of the log up to which it is */
byte wanted[2];            /* the version that the replica has read, and has to reach */
byte answer[2];            /* the version that its step has made, if the commit was applied */
byte place[2], next[2];    /* the pointers that it has read */
bool second[2];            /* whether it loads the second of them */

byte flying = NONE, flying_base; /* a step on a connection that broke */

byte crashes = CRASHES, losses = LOSSES, fallbacks = FALLBACKS, expires = EXPIRES;
byte snapshots = SNAPSHOTS;

inline copy(to, from) {
    to.pel[0] = from.pel[0]; to.pel[1] = from.pel[1]; to.pel[DEAD] = from.pel[DEAD];
    to.stored = from.stored; to.done = from.done; to.last = from.last; to.group = from.group;
    to.version = from.version; to.log = from.log; to.newest = from.newest; to.older = from.older;
    to.pieces = from.pieces
}

/* Versions are compared by their tokens. */
#ifdef BY_STEP
#define SAME_VERSION(one, other) ((one) != NO_VERSION && step_of[one] == step_of[other])
#else
#define SAME_VERSION(one, other) ((one) == (other))
#endif

/* Weights after one more step. */
#define STEP(weights, batch) ((weights) * (BATCHES + 1) + (batch))

/* Whether a snapshot is stored, and the steps from it to the run's version are in the log. */
inline leads(start) {
    number = srv.version;
    do
    :: number != version_of[start] && HAS(srv.log, number) -> number = before[number]
    :: else -> break
    od;
    found = (number == version_of[start] && HAS(SAVED, start));
    number = 0
}

inline check_loadable() {
    leads(srv.newest);
    if
    :: found
    :: else -> leads(srv.older); HOLDS(LOADABLE, found)
    fi;
    found = 0
}

/* lua/commit.lua, of a step that was computed at a version: store.stage. */
inline commit_step(batch, base) {
    reply = OK;
#ifndef NO_PENDING
    if                                              /* PENDING stream done group entry */
    :: !OWED(batch) || HAS(srv.done, batch) -> reply = GONE
    :: else
    fi;
#endif
#ifndef NO_SAME_VERSION
    if                                              /* SAME model version */
    :: reply == OK && !SAME_VERSION(base, srv.version) -> reply = STALE
    :: else
    fi;
#endif
    if
    :: reply == OK ->
#ifdef BY_STEP
        previous = srv.version;
#else
        previous = base;
#endif
        number = previous;                          /* STEP_ONCE: is it in the chain? */
        do
        :: number != 0 -> HOLDS(STEP_ONCE, batch_of[number] != batch); number = before[number]
        :: else -> break
        od;
        XACK(batch); srv.done = WITH(srv.done, batch);
        assert(added < VERSIONS);
        before[added] = previous; batch_of[added] = batch;
        step_of[added] = step_of[previous] + 1; truth[added] = STEP(truth[previous], batch);
#ifndef NO_RECORD
        srv.log = WITH(srv.log, added);             /* XADD steps */
#endif
        srv.version = added;                        /* HSET model version */
        added++; previous = 0;
        check_loadable()
    :: else
    fi
}

/* follower._reaches: one XRANGE of the records behind the last one that it knows; those that continue
 * its version are repeated. `found`: whether that leads to the version that is wanted, or past it. */
inline reaches(me) {
    found = SAME_VERSION(version[me], wanted[me]);
    number = at[me] + 1;
    do
    :: number < added && HAS(srv.log, number) ->
        if
        :: SAME_VERSION(version[me], before[number]) ->
            weights[me] = STEP(weights[me], batch_of[number]);
            version[me] = number; at[me] = number;
            found = found || SAME_VERSION(number, wanted[me])
        :: !SAME_VERSION(version[me], before[number]) && number == version[me] -> at[me] = number
        :: else
        fi;
        number++
    :: number < added && !HAS(srv.log, number) -> number++
    :: number >= added -> break
    od;
    number = 0
}

inline let_go(me) { hand[me] = NONE; wanted[me] = 0; answer[me] = 0; place[me] = 0; next[me] = 0;
    second[me] = false }

inline disconnect(me) {
    if
    :: phase[me] == SENT && flying == NONE -> flying = hand[me]; flying_base = version[me]
    :: else
    fi;
    let_go(me); phase[me] = START
}

inline forget_past() {
    past.pel[0] = 0; past.pel[1] = 0; past.pel[DEAD] = 0; past.stored = 0; past.done = 0;
    past.last = 0; past.group = 0; past.version = 0; past.log = 0; past.newest = 0; past.older = 0;
    past.pieces = 0
}

inline pick(number, set) {
    number = 0;
    do
    :: HAS(set, number) -> break
    :: (set) >> (number + 1) -> number++
    od
}

/* The model is up to date: with a message in hand its gradient is computed now. */
inline followed(me) {
    HOLDS(WEIGHTS, weights[me] == truth[version[me]]);
    wanted[me] = 0; place[me] = 0; next[me] = 0; second[me] = false;
    if
    :: hand[me] == NONE -> phase[me] = IDLE
    :: else -> phase[me] = SENT;
#ifdef APPLY_FIRST
        weights[me] = STEP(weights[me], hand[me])
#endif
    fi
}

/* The snapshot before; then the pointers again, if others have pointed to newer ones meanwhile; then
 * ModelError, with which the process ends. */
inline next_place(me) {
    if
    :: !second[me] && place[me] != next[me] -> second[me] = true; phase[me] = LOAD
    :: else ->
#ifdef POINTERS_ONCE
        HOLDS(LOADABLE, false);
#else
        HOLDS(LOADABLE, place[me] != srv.newest || next[me] != srv.older);
#endif
        REACHED(READ_POINTERS_AGAIN); phase[me] = RELOAD
    fi
}

#define PLACE(me) (second[me] -> next[me] : place[me])

proctype Replica(byte me) {
    byte entry, reply, number, previous;
    bool found;
end:
    do
    :: atomic { phase[me] == START ->               /* snapshotter._load: follow(version) */
        wanted[me] = srv.version; phase[me] = FOLLOW }
    :: atomic { phase[me] == IDLE && UNREAD ->      /* XREADGROUP, and behind it HMGET version */
        srv.last++; hand[me] = srv.last; srv.pel[me] = WITH(srv.pel[me], srv.last);
        wanted[me] = srv.version; phase[me] = FOLLOW }
    :: atomic { phase[me] == IDLE && (srv.pel[me] | srv.pel[DEAD]) ->
        pick(entry, srv.pel[me] | srv.pel[DEAD]); XACK(entry);
        srv.pel[me] = WITH(srv.pel[me], entry); hand[me] = entry; entry = 0;
        wanted[me] = srv.version; phase[me] = FOLLOW }
    :: atomic { phase[me] == IDLE && !SAME_VERSION(version[me], srv.version) ->
        wanted[me] = srv.version; phase[me] = FOLLOW } /* store.catch_up, while none comes */

    :: atomic { phase[me] == FOLLOW ->              /* follower._follow */
        if
        :: version[me] != NO_VERSION -> reaches(me)
        :: else
        fi;
        if
        :: found -> followed(me)
        :: else -> phase[me] = NEWEST
        fi;
        found = 0 }
    :: atomic { phase[me] == NEWEST ->              /* follower._newest */
        if
        :: SAME_VERSION(version[me], srv.version) -> followed(me)
        :: !SAME_VERSION(version[me], srv.version) && wanted[me] == srv.version ->
            phase[me] = RELOAD
        :: else -> wanted[me] = srv.version; phase[me] = FOLLOW
        fi }
    :: atomic { phase[me] == RELOAD ->              /* follower._followed */
        if
        :: version[me] != NO_VERSION -> REACHED(LEFT_LOST_VERSION)
        :: else
        fi;
        place[me] = srv.newest; next[me] = srv.older; second[me] = false;
        phase[me] = LOAD }
    :: atomic { phase[me] == LOAD ->                /* follower._loaded, adopt, _newest */
        if
        :: HAS(SAVED, PLACE(me)) ->
            version[me] = version_of[PLACE(me)]; weights[me] = truth[version[me]];
            at[me] = version[me]; wanted[me] = srv.version; phase[me] = REPEAT
        :: else -> next_place(me)
        fi }
    :: atomic { phase[me] == REPEAT ->
        reaches(me);
        if
        :: found -> followed(me)
        :: else -> next_place(me)
        fi;
        found = 0 }

    :: atomic { phase[me] == SENT ->
        commit_step(hand[me], version[me]);
        if
        :: reply == OK -> answer[me] = srv.version; phase[me] = ANSWERED
        :: reply == GONE -> let_go(me); phase[me] = IDLE
        :: reply == STALE -> REACHED(STEPPED_AGAIN); /* loop._is_settled: refresh, step_again */
            wanted[me] = srv.version; phase[me] = FOLLOW
        fi;
        reply = 0 }
#ifdef UNSORTED                                     /* loop._settle: another message first */
    :: atomic { phase[me] == ANSWERED -> wanted[me] = srv.version; reaches(me); found = 0 }
#endif
    :: atomic { phase[me] == ANSWERED ->            /* store.committed: apply, stepped */
#ifndef APPLY_FIRST
        weights[me] = STEP(weights[me], hand[me]);
#endif
        version[me] = answer[me]; at[me] = answer[me];
        HOLDS(WEIGHTS, weights[me] == truth[version[me]]);
        let_go(me); phase[me] = IDLE }
    od
}

/* The thread that writes a snapshot: SnapshotWriter.write and point. */
#define NOTHING 0
#define TAKEN 1            /* copied; nothing is stored */
#define WRITTEN 2          /* stored; nothing points to it */
#define LOOKED 3           /* the pointers are read */
#define OF_RUN 4           /* _is_of_run: its record is in the log */
#define DELETE 5           /* the run points to it; what it replaced may be deleted */
byte writing[WRITERS], copied[WRITERS], by[WRITERS];
byte read_newest[WRITERS], read_older[WRITERS]; /* the pointers as they were read */
#define STEP_OF(place) step_of[version_of[place]]

inline done_writing(w) {
    writing[w] = NOTHING; copied[w] = 0; by[w] = 0; read_newest[w] = 0; read_older[w] = 0
}

inline delete_files(w) {
    if
    :: FILES && read_older[w] != read_newest[w] -> files = LESS(files, read_older[w])
    :: else
    fi
}

/* lua/commit.lua, of the pointer: writer._stage. */
inline commit_pointer(w) {
    reply = OK;
#ifndef NO_STORED
    if                                              /* STORED key, for pieces in Redis */
    :: !FILES && !HAS(srv.pieces, copied[w]) -> REACHED(NOT_STORED); reply = STALE
    :: else
    fi;
#endif
#ifndef NO_SAME_POINTERS
    if                                              /* SAME model snapshots */
    :: srv.newest != read_newest[w] || srv.older != read_older[w] ->
        REACHED(STALE_POINTER); reply = STALE
    :: else
    fi;
#endif
    if
    :: reply == OK ->
        HOLDS(POINTED, HAS(SAVED, copied[w]) && HAS(srv.log, version_of[copied[w]]));
        HOLDS(POINTED, STEP_OF(copied[w]) > STEP_OF(srv.newest));
        srv.newest = copied[w]; srv.older = read_newest[w]; /* HSET model snapshots */
        if
        :: read_older[w] != read_newest[w] ->       /* UNLINK */
            srv.pieces = LESS(srv.pieces, read_older[w]); REACHED(TWO_SNAPSHOTS)
        :: else
        fi;
#ifdef TRIM_ALL
        srv.log = srv.log & ~UP_TO(srv.version);
#else
        if                                          /* XTRIM steps MINID */
        :: version_of[srv.older] > 0 -> srv.log = srv.log & ~UP_TO(version_of[srv.older] - 1)
        :: else
        fi;
#endif
        check_loadable()
    :: else
    fi
}

/* Snapshotter.consider, and _copied. */
#define IS_DUE(me) (snapshots && phase[me] == IDLE && step_of[version[me]] > STEP_OF(srv.newest))
inline copy_of(w, me) {
    HOLDS(WEIGHTS, weights[me] == truth[version[me]]);
    snapshots--; by[w] = me; 
#ifdef ONE_PLACE                                    /* the place is named after the version */
    copied[w] = version[me]; version_of[version[me]] = version[me];
#else
    copied[w] = placed; version_of[placed] = version[me]; placed++;
#endif
    writing[w] = TAKEN
}

proctype Writer(byte w) {
    byte reply, number;
    bool found;
end:
    do
    :: atomic { writing[w] == NOTHING && IS_DUE(0) -> copy_of(w, 0) }
    :: atomic { writing[w] == NOTHING && REPLICAS == 2 && IS_DUE(1) -> copy_of(w, 1) }
    :: atomic { writing[w] == TAKEN -> SAVED = WITH(SAVED, copied[w]); writing[w] = WRITTEN }
    :: atomic { writing[w] == WRITTEN ->            /* writer._stored */
        read_newest[w] = srv.newest; read_older[w] = srv.older; writing[w] = LOOKED }
    :: atomic { writing[w] == LOOKED ->
        if                                          /* not newer than the newest one: deleted */
        :: STEP_OF(read_newest[w]) >= STEP_OF(copied[w]) ->
            HOLDS(POINTED, copied[w] != srv.newest && copied[w] != srv.older);
            SAVED = LESS(SAVED, copied[w]); done_writing(w)
#ifndef NO_OF_RUN
        :: STEP_OF(read_newest[w]) < STEP_OF(copied[w]) && !HAS(srv.log, version_of[copied[w]]) ->
            REACHED(NOT_OF_RUN); SAVED = LESS(SAVED, copied[w]); done_writing(w)
#endif
        :: else -> writing[w] = OF_RUN
        fi }
    :: atomic { writing[w] == OF_RUN ->
#ifdef DELETE_FIRST
        delete_files(w);
#endif
        commit_pointer(w);
        if
        :: reply == OK -> writing[w] = DELETE
        :: reply != OK && !FILES && !HAS(srv.pieces, copied[w]) -> done_writing(w) /* three tries */
        :: else -> writing[w] = WRITTEN             /* it looks again */
        fi;
        reply = 0 }
    :: atomic { writing[w] == DELETE ->             /* WAITAOF, then _delete_files */
#ifndef DELETE_FIRST
        if
        :: has_past && FILES && read_older[w] != read_newest[w] -> copy(past, srv)
        :: else
        fi;
        delete_files(w);
#endif
        check_loadable(); done_writing(w) }
    od
}

/* A step that was sent on a connection that broke. */
proctype Network() {
    byte reply, number, previous;
    bool found;
end:
    do
    :: atomic { flying != NONE ->
        commit_step(flying, flying_base);
        if
        :: reply == OK -> REACHED(ZOMBIE_STEP)
        :: else
        fi;
        flying = NONE; flying_base = 0; reply = 0 }
    od
}

proctype Faults() {
    byte me, number;
    bool found;
    do
    :: atomic { crashes -> crashes--; pick(me, UP_TO(REPLICAS - 1));
        disconnect(me); version[me] = NO_VERSION; weights[me] = 0; at[me] = 0;
        srv.pel[DEAD] = srv.pel[DEAD] | srv.pel[me]; srv.pel[me] = 0;
        past.pel[DEAD] = past.pel[DEAD] | past.pel[me]; past.pel[me] = 0;
        number = 0;
        do
        :: number < WRITERS && by[number] == me -> done_writing(number); number++
        :: number < WRITERS && by[number] != me -> number++
        :: number == WRITERS -> break
        od;
        me = 0; number = 0 }
    :: atomic { losses -> losses--; pick(me, UP_TO(REPLICAS - 1)); disconnect(me); me = 0 }
    :: atomic { expires && writing[0] > TAKEN && writing[0] < DELETE -> expires--;
        srv.pieces = LESS(srv.pieces, copied[0]) }
    :: atomic { fallbacks && !has_past -> has_past = true; copy(past, srv) }
    :: atomic { fallbacks && has_past -> fallbacks--; has_past = false;
        copy(srv, past); forget_past();
        number = 0;
        do                                          /* all connections break */
        :: number < REPLICAS -> let_go(number); phase[number] = START; number++
        :: else -> break
        od;
        flying = NONE; flying_base = 0;
        number = 0;
#ifndef RECONNECTS
        do
        :: number < WRITERS && (writing[number] > WRITTEN || (!FILES && writing[number] == WRITTEN)) ->
            done_writing(number); number++
        :: number < WRITERS && (writing[number] < WRITTEN || (FILES && writing[number] == WRITTEN)) ->
            number++                                /* it has not connected yet */
        :: number == WRITERS -> break
        od;
        number = 0;
#endif
        check_loadable() }
    :: break
    od
}

/* When nothing happens any more, all steps are taken, and each replica has followed. */
proctype Judge() {
    byte number, seen;
    timeout ->
    atomic {
        number = srv.version;
        do
        :: number != 0 -> seen = WITH(seen, batch_of[number]); number = before[number]
        :: else -> break
        od;
        HOLDS(NOTHING_LOST, (seen | 1) == UP_TO(BATCHES));
        HOLDS(NOTHING_LOST, !UNREAD && (srv.pel[0] | srv.pel[1] | srv.pel[DEAD]) == 0);
        do
        :: number < REPLICAS ->
            HOLDS(NOTHING_LOST, phase[number] == IDLE && version[number] == srv.version);
            HOLDS(WEIGHTS, weights[number] == truth[srv.version]); number++
        :: else -> break
        od;
        REACHED(ALL_DONE)
    }
}

init {
    byte number;
    atomic {
        srv.group = true; srv.stored = UP_TO(BATCHES) - 1; srv.pieces = 1;
        do
        :: number < REPLICAS -> run Replica(number); number++
        :: else -> break
        od;
        number = 0;
        do
        :: number < WRITERS -> run Writer(number); number++
        :: else -> break
        od;
        number = 0;
        run Network(); run Faults(); run Judge()
    }
}
