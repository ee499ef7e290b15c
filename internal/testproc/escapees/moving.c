// Trees that do not stand still: who looks twice finds others. They come to rest before the zombies
// that they leave to PID 1 use up all PIDs.
#include "escapee.h"
#include <stdatomic.h>
#include <sys/prctl.h>

enum { patience = 20 /* seconds */, births_per_ms = 2 };

// Each of n forks the next and ends, in a session of its own now and then. They take a breath at times,
// for the sake of PID 1, which has to reap them.
int hops(int n) {
	if (must_fork() == 0) {
		setsid();
		for (int i = 0; i < n; i++) {
			pid_t next = fork();
			if (next > 0) _exit(0);
			if (next == 0 && i % 3 == 0) setsid();
			if (i == 10) joined();
			if (i % 16 == 0) usleep(4000);
		}
		rest();
	}
	return 1;
}

// A supervisor: whoever ends is replaced at once.
int respawns(int n) {
	(void)n;
	if (detached() == 0) {
		joined();
		for (int first = 1; left(patience); first = 0) {
			pid_t worker = fork();
			if (worker == 0) {
				setsid();
				if (first) joined();
				rest();
			}
			waitpid(worker, NULL, 0);
		}
		rest();
	}
	return 2;
}

// Each of two replaces the other: the parent one that ends, the child one that is gone.
int resurrects(int n) {
	(void)n;
	if (detached() == 0) {
		sigset_t usr1;
		sigemptyset(&usr1);
		sigaddset(&usr1, SIGUSR1);
		sigprocmask(SIG_BLOCK, &usr1, NULL);
		joined();
		for (int first = 1; left(patience); first = 0) {
			pid_t me = getpid(), other = fork();
			if (other != 0) {
				waitpid(other, NULL, 0);
				continue;
			}
			setsid();
			prctl(PR_SET_PDEATHSIG, SIGUSR1);
			if (first) joined();
			int sig;
			if (getppid() == me) sigwait(&usr1, &sig);
		}
		rest();
	}
	return 2;
}

static void fork_again(int sig) {
	(void)sig;
	if (left(patience) && fork() > 0) _exit(0);
	setsid();
}

int forks_on_term(int n) {
	for (int i = 0; i < n; i++)
		if (detached() == 0) {
			signal(SIGTERM, fork_again);
			stand();
		}
	return n;
}

// Two births a millisecond, n in all, however many have been killed meanwhile: each process has a child
// before it ends, every other one of them in a group or a session of its own.
struct storm {
	struct timespec began;
	atomic_long births;
};

static long milliseconds_since(const struct timespec *then) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - then->tv_sec) * 1000 + (now.tv_nsec - then->tv_nsec) / 1000000;
}

static _Noreturn void storm(struct storm *s, int n) {
	long born = milliseconds_since(&s->began);
	for (int had = 0; had < 3 && (had == 0 || milliseconds_since(&s->began) - born < 20);) {
		long births = atomic_load(&s->births);
		if (births > n) rest();
		if (births >= milliseconds_since(&s->began) * births_per_ms + 8 ||
			!atomic_compare_exchange_weak(&s->births, &births, births + 1)) {
			usleep(200);
			continue;
		}
		pid_t pid = fork();
		if (pid > 0) had++;
		if (pid != 0) continue;
		if (births % 4 == 0) setsid();
		if (births % 4 == 2) setpgid(0, 0);
		if (births == 30) joined();
		had = 0;
		born = milliseconds_since(&s->began);
	}
	_exit(0);
}

int storms(int n) {
	struct storm *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED) fail("mmap");
	clock_gettime(CLOCK_MONOTONIC, &s->began);
	signal(SIGCHLD, SIG_IGN); // nobody waits
	for (int i = 0; i < 4; i++)
		if (must_fork() == 0) {
			keep_to_one_processor();
			storm(s, n);
		}
	return 1;
}
