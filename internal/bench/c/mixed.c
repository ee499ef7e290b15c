// mixed N leads a tree of N processes that sleep: background jobs, groups and sessions of their own, and
// daemons. It prints a line once all of them stand.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void rest(void) {
	alarm(120);
	for (;;)
		pause();
}

int main(int argc, char **argv) {
	int n = argc > 1 ? atoi(argv[1]) : 1, stands[2];
	char c = 0;
	if (pipe(stands) < 0)
		return 1;
	for (int i = 1; i < n; i++) {
		pid_t pid = fork();
		if (pid < 0)
			return 1;
		if (pid == 0) {
			if (i % 4 == 1)
				setpgid(0, 0);
			if (i % 4 >= 2)
				setsid();
			if (i % 4 == 3 && fork())
				_exit(0);
			if (write(stands[1], &c, 1) != 1)
				_exit(1);
			rest();
		}
		if (i % 4 == 3)
			waitpid(pid, NULL, 0);
	}
	for (int i = 1; i < n; i++)
		if (read(stands[0], &c, 1) != 1)
			return 1;
	puts("ready");
	fflush(stdout);
	rest();
}
