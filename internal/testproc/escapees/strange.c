// Processes that are not what a walk through /proc expects.
#include "escapee.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

static pid_t raw_clone(unsigned long flags) { return syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0); }

// Its parent ends, and it is a child of the leader all along.
int clone_parent(int n) {
	(void)n;
	pid_t between = must_fork();
	if (between == 0) {
		if (raw_clone(CLONE_PARENT) == 0) {
			setsid();
			stand();
		}
		_exit(0);
	}
	waitpid(between, NULL, 0);
	return 1;
}

// A child of whoever started the leader.
int clone_sibling(int n) {
	(void)n;
	if (raw_clone(CLONE_PARENT) == 0) {
		setsid();
		stand();
	}
	return 1;
}

static int share(void *arg) {
	(void)arg;
	setsid();
	stand();
}

// Another process in the same memory.
int shares_memory(int n) {
	(void)n;
	if (detached() == 0) {
		static char stack[64 << 10] __attribute__((aligned(64)));
		if (clone(share, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) < 0) fail("clone");
		joined();
		rest();
	}
	return 2;
}

// It waits in the kernel, where no signal but SIGKILL reaches it, until its child has gone.
int vfork_parent(int n) {
	(void)n;
	if (detached() == 0) {
		pid_t waits = getpid();
		if (vfork() == 0) {
			setsid();
			joined_as(waits);
			stand();
		}
		_exit(0);
	}
	return 2;
}

// The tracee is stopped, and its tracer will not let it go on.
int traced(int n) {
	(void)n;
	if (detached() == 0) {
		pid_t tracee = must_fork();
		if (tracee == 0) {
			setsid();
			if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(1);
			raise(SIGSTOP);
			rest();
		}
		int status;
		if (waitpid(tracee, &status, 0) != tracee || !WIFSTOPPED(status)) _exit(1);
		joined_as(tracee);
		joined();
		rest();
	}
	return 2;
}

static int first_thread_is_zombie(void) {
	char stat[512];
	int fd = open("/proc/self/stat", O_RDONLY);
	ssize_t n = read(fd, stat, sizeof stat - 1);
	close(fd);
	stat[n > 0 ? n : 0] = 0;
	char *end = strrchr(stat, ')');
	return n <= 0 || !end || end[2] == 'Z';
}

static void *stand_alone(void *arg) {
	while (!first_thread_is_zombie()) usleep(1000);
	if (!arg) stand();
	printf("ready %d\n", getpid());
	fflush(stdout);
	rest();
}

static _Noreturn void exit_first_thread(void *arg) {
	pthread_t thread;
	if (pthread_create(&thread, NULL, stand_alone, arg)) fail("pthread_create");
	for (;;) syscall(SYS_exit, 0);
}

int first_thread_exits(int n) {
	(void)n;
	if (detached() == 0) exit_first_thread(NULL);
	return 1;
}

// The same of the leader of the tree. It never leaves.
int leader_thread_exits(int n) {
	static int leader;
	(void)n;
	exit_first_thread(&leader);
}

// The one who leads the session is a zombie that nobody reaps.
int zombie_session(int n) {
	(void)n;
	pid_t pid = must_fork();
	if (pid == 0) {
		setsid();
		if (must_fork() == 0) stand();
		_exit(0);
	}
	siginfo_t info;
	waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
	return 1;
}

// Orphans go to another than PID 1.
int subreaper(int n) {
	(void)n;
	if (detached() == 0) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		if (detached() == 0) stand();
		stand();
	}
	return 2;
}

// They call themselves 1 and 2.
int own_pid_namespace(int n) {
	(void)n;
	if (geteuid() != 0) skip("needs root to make a PID namespace");
	if (detached() == 0) {
		if (unshare(CLONE_NEWPID)) skip("cannot make a PID namespace");
		if (must_fork() == 0) {
			if (must_fork() == 0) {
				setsid();
				joined_as(0);
				rest();
			}
			joined_as(0);
			rest();
		}
		joined();
		rest();
	}
	return 3;
}
