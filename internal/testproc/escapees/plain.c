// Trees that stand still, each hidden from one or more of the ways to find it.
#include "escapee.h"
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int gate_fd(void);

int chain(int n) {
	if (must_fork() == 0) {
		for (int i = 1; i < n && must_fork() == 0; i++);
		stand();
	}
	return n;
}

int fan(int n) {
	for (int i = 0; i < n; i++)
		if (must_fork() == 0) stand();
	return n;
}

int leaves_session(int n) {
	for (int i = 0; i < n; i++)
		if (must_fork() == 0) {
			setsid();
			stand();
		}
	return n;
}

int double_fork(int n) {
	for (int i = 0; i < n; i++)
		if (detached() == 0) stand();
	return n;
}

int no_environment(int n) {
	(void)n;
	if (detached() == 0) {
		char fd[16];
		snprintf(fd, sizeof fd, "%d", gate_fd());
		char *argv[] = {"escapee", "_stand", fd, NULL}, *none[] = {NULL};
		execve("/proc/self/exe", argv, none);
		fail("execve");
	}
	return 1;
}

int overwrites_environment(int n) {
	(void)n;
	if (detached() == 0) {
		wipe();
		prctl(PR_SET_NAME, "title");
		stand();
	}
	return 1;
}

// One that is stopped in the leader's group, and one far from it.
int stopped(int n) {
	(void)n;
	for (int i = 0; i < 2; i++) {
		pid_t pid = must_fork();
		if (pid == 0) {
			if (i) setsid();
			joined();
			raise(SIGSTOP);
			rest();
		}
		int status;
		if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status)) fail("not stopped");
	}
	return 2;
}

// In the leader as well.
int ignores_all(int n) {
	(void)n;
	for (int sig = 1; sig < NSIG; sig++) signal(sig, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	if (must_fork() == 0) stand();
	if (detached() == 0) stand();
	return 2;
}

int other_user(int n) {
	(void)n;
	if (geteuid() != 0) skip("needs root to change the user");
	if (detached() == 0) {
		if (setgroups(0, NULL) || setgid(65534) || setuid(65534)) fail("setuid");
		stand();
	}
	return 1;
}

// Its environ, its descriptors and its limits are root's in /proc.
int non_dumpable(int n) {
	(void)n;
	if (detached() == 0) {
		if (prctl(PR_SET_DUMPABLE, 0)) fail("PR_SET_DUMPABLE");
		stand();
	}
	return 1;
}

static int named(const char *name) {
	if (detached() == 0) {
		prctl(PR_SET_NAME, name);
		stand();
	}
	return 1;
}

int named_like_stat(int n) { (void)n; return named(") R 1 ("); }
int named_with_newline(int n) { (void)n; return named("a b\nc) Z 2"); }

// As an audio client does that asked for real-time scheduling.
int sheds_limit(int n) {
	(void)n;
	if (detached() == 0) {
		struct rlimit limit;
		getrlimit(RLIMIT_RTTIME, &limit);
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_RTTIME, &limit);
		stand();
	}
	return 1;
}

// Background jobs, groups and sessions of their own, and daemons without an environment.
int mixed(int n) {
	for (int i = 0; i < n; i++)
		switch (i % 4) {
		case 0:
			if (must_fork() == 0) stand();
			break;
		case 1:
			if (must_fork() == 0) {
				setpgid(0, 0);
				stand();
			}
			break;
		case 2:
			if (must_fork() == 0) {
				setsid();
				stand();
			}
			break;
		case 3:
			if (detached() == 0) {
				wipe();
				stand();
			}
		}
	return n;
}

// It says nothing, waits for nobody and has left before the starter has even returned.
int instant(int n) {
	(void)n;
	if (fork() == 0) {
		wipe();
		setsid();
		if (fork()) _exit(0);
		rest();
	}
	return 0;
}
