/* What the models share: a stream with one consumer group, and how they name properties.
 *
 * Sets of small numbers are bits. An entry is a number that is never given twice: entry IDs contain
 * the server's time, so that also a server that fell back gives none again. What an entry contains
 * never changes; `stored` says whether it is in the stream.
 */

#define HAS(set, number)    (((set) >> (number)) & 1)
#define WITH(set, number)   ((set) | (1 << (number)))
#define LESS(set, number)   ((set) & ~(1 << (number)))
#define UP_TO(number)       ((1 << ((number) + 1)) - 1)   /* the set of 0 to this number */

/* -DONLY=NAME checks one property alone, to see which of them a mutation breaks. -DREACH=NAME asks
 * whether a state is reachable: Spin then reports that the assertion does not hold. */
#ifdef ONLY
#define HOLDS(name, condition) assert(name != ONLY || (condition))
#else
#define HOLDS(name, condition) assert(condition)
#endif
#ifdef REACH
#define REACHED(name) assert(name != REACH)
#else
#define REACHED(name) skip
#endif

#define NONE 15            /* no entry */
#define DEAD 2             /* owner of what a replica without a heartbeat has received */

/* Replies of commit.lua. */
#define OK 1
#define GONE 2
#define STALE 3

/* XPENDING stream group entry entry 1: whether the group has delivered it and waits for XACK. An
 * error (NOGROUP, after XGROUP DESTROY) counts as no: commit.lua, PENDING. */
#define OWED(entry) (srv.group && HAS(srv.pel[0] | srv.pel[1] | srv.pel[DEAD], entry))

inline XACK(entry) {
    srv.pel[0] = LESS(srv.pel[0], entry);
    srv.pel[1] = LESS(srv.pel[1], entry);
    srv.pel[DEAD] = LESS(srv.pel[DEAD], entry)
}

/* Entries that XREADGROUP ... > would return. */
#define UNREAD (srv.group -> srv.stored & ~UP_TO(srv.last) : 0)
