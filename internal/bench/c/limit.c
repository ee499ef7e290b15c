// limit PROGRAM [ARG…] is as little as a host can do for one command. For each byte on its standard
// input it runs PROGRAM once and prints "NANOSECONDS BYTES CPUNANOSECONDS": the time from before the
// pipes are made until the command is reaped, the bytes read, and the CPU time of this process alone.
//
// Both outputs are read through a pipe each by one poll loop. Nothing is kept, nothing is bounded.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char buffer[64 << 10];

static long long nanoseconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long cpu(void) {
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000000LL +
		(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000LL;
}

static void die(const char *what) {
	perror(what);
	exit(2);
}

// run returns how many bytes came.
static long long run(char **argv) {
	int out[2], err[2];
	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		die("pipe2");
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_adddup2(&actions, err[1], 2);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	pid_t pid;
	if (posix_spawn(&pid, argv[0], &actions, &attr, argv, environ) != 0)
		die("posix_spawn");
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	close(out[1]);
	close(err[1]);

	struct pollfd fds[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
	long long total = 0;
	for (int open = 2; open > 0;) {
		if (poll(fds, 2, -1) < 0)
			die("poll");
		for (int i = 0; i < 2; i++) {
			if (fds[i].revents == 0)
				continue;
			ssize_t n = (fds[i].revents & POLLIN) ? read(fds[i].fd, buffer, sizeof buffer) : 0;
			if (n <= 0) {
				close(fds[i].fd);
				fds[i].fd = -1;
				open--;
			} else {
				total += n;
			}
		}
	}
	int status;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("waitpid");
	return total;
}

int main(int argc, char **argv) {
	char c;
	if (argc < 2)
		return 2;
	while (read(0, &c, 1) == 1) {
		long long used = cpu(), began = nanoseconds();
		long long bytes = run(argv + 1);
		long long took = nanoseconds() - began;
		printf("%lld %lld %lld\n", took, bytes, cpu() - used);
		fflush(stdout);
	}
	return 0;
}
