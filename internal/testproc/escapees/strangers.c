// Processes that no signal may ever reach.
#include "escapee.h"

_Noreturn void bystander(void);
_Noreturn void churn(int n);

static void struck(int sig) {
	char line[] = "signal 00\n";
	line[7] += sig / 10;
	line[8] += sig % 10;
	if (write(1, line, sizeof line - 1) < 0) _exit(126);
}

// A bystander says every signal that it gets. It answers each byte of its input with "alive", and
// ends with its input.
_Noreturn void bystander(void) {
	struct sigaction act = {.sa_handler = struck, .sa_flags = SA_RESTART};
	for (int sig = 1; sig < NSIG; sig++) sigaction(sig, &act, NULL);
	printf("ready %d\n", getpid());
	fflush(stdout);
	char c;
	while (read(0, &c, 1) == 1)
		if (write(1, "alive\n", 6) != 6) _exit(126);
	_exit(0);
}

// Churn has children that live for no more than two milliseconds, n at a time, so that PIDs are used
// again and again. It prints each time that these start anew, which of its children a signal ended or
// stopped, and at the end of its input how many there were.
_Noreturn void churn(int n) {
	long total = 0, alive = 0;
	pid_t last = 0;
	signal(SIGPIPE, SIG_IGN);
	keep_to_one_processor();
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready %d\n", getpid());
	fflush(stdout);
	if (must_fork() == 0) { // turns the end of the input into a signal, as nobody else sends one
		char c;
		while (read(0, &c, 1) == 1);
		_exit(0);
	}
	for (int over = 0; !over || alive;) {
		while (!over && alive < n) {
			pid_t pid = fork();
			if (pid < 0) break; // no PID left; one will be free soon
			if (pid == 0) {
				usleep((total * 7919) % 2000);
				_exit(1);
			}
			if (pid < last) printf("lap\n");
			last = pid;
			alive++;
			total++;
		}
		int status;
		pid_t pid = waitpid(-1, &status, WUNTRACED);
		if (pid < 0) break;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			over = 1;
			continue;
		}
		if (!WIFEXITED(status)) printf("struck %d by %d\n", pid, WIFSTOPPED(status) ? WSTOPSIG(status) : WTERMSIG(status));
		if (!WIFSTOPPED(status)) alive--;
	}
	printf("churned %ld\n", total);
	fflush(stdout);
	_exit(0);
}
