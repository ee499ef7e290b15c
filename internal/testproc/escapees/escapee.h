// What the programs of this directory share: how a process says that it stands, and how it rests.
#ifndef ESCAPEE_H
#define ESCAPEE_H

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { unsupported = 77, lifetime = 600 /* seconds */ };

// A kind of tree. It is called in the leader and returns how many processes will call joined.
typedef int kind(int n);

// The kinds, by file.
kind chain, fan, leaves_session, double_fork, no_environment, overwrites_environment, stopped,
	ignores_all, other_user, non_dumpable, named_like_stat, named_with_newline, sheds_limit, mixed,
	instant; // plain.c
kind hops, respawns, resurrects, forks_on_term, storms; // moving.c
kind clone_parent, clone_sibling, shares_memory, vfork_parent, traced, first_thread_exits,
	leader_thread_exits, zombie_session, subreaper, own_pid_namespace; // strange.c

void joined(void);                      // this process stands
void joined_as(pid_t pid);              // the same for one that cannot say it itself
_Noreturn void rest(void);              // sleeps until its lifetime is over
_Noreturn void stand(void);             // joined, then rest
_Noreturn void skip(const char *why);   // this kind cannot be had here
_Noreturn void fail(const char *what);
pid_t must_fork(void);
void wipe(void);                        // overwrites the environment, as setproctitle does
// keep_to_one_processor has what forks without end leave the other processors to those that end it, or
// else it has come to rest before they get a turn. In a soak it may have them all.
void keep_to_one_processor(void);
int left(int seconds);                  // whether so many have not passed since the start

// detached runs what follows in the daemon of a double fork: it returns 0 there, and its PID's
// number of processes, 1, in the leader, which has then reaped the one in the middle.
int detached(void);

#endif
