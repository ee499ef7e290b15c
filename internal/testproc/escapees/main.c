// Programs that escape from whoever started them. escapee KIND stay|leave [N] builds a tree, prints
// "ready", its PID and those of the tree once all of it stands, and then sleeps or exits with status
// 0. Status 77 says that the kind cannot be had here, with the reason on standard error.
#include "escapee.h"

extern char **environ;

static int gate[2];
static time_t began;

static const struct { const char *name; kind *build; } kinds[] = {
	{"chain", chain}, {"fan", fan}, {"setsid", leaves_session}, {"double-fork", double_fork},
	{"no-environment", no_environment}, {"overwrites-environment", overwrites_environment},
	{"stopped", stopped}, {"ignores-all", ignores_all}, {"other-user", other_user},
	{"non-dumpable", non_dumpable}, {"named-like-stat", named_like_stat},
	{"named-with-newline", named_with_newline}, {"sheds-limit", sheds_limit}, {"mixed", mixed},
	{"instant", instant}, {"hops", hops}, {"respawns", respawns}, {"resurrects", resurrects},
	{"forks-on-term", forks_on_term}, {"storms", storms}, {"clone-parent", clone_parent},
	{"clone-sibling", clone_sibling}, {"shares-memory", shares_memory},
	{"vfork-parent", vfork_parent}, {"traced", traced}, {"first-thread-exits", first_thread_exits},
	{"leader-thread-exits", leader_thread_exits}, {"zombie-session", zombie_session},
	{"subreaper", subreaper}, {"own-pid-namespace", own_pid_namespace},
};

_Noreturn void bystander(void);
_Noreturn void churn(int n);

_Noreturn void fail(const char *what) {
	fprintf(stderr, "escapee: %s: %s\n", what, strerror(errno));
	_exit(125);
}

_Noreturn void skip(const char *why) {
	fprintf(stderr, "%s\n", why);
	_exit(unsupported);
}

// A process that was forked does not inherit the alarm of its parent, hence here.
_Noreturn void rest(void) {
	signal(SIGALRM, SIG_DFL);
	alarm(lifetime);
	for (;;) pause();
}

void joined_as(pid_t pid) {
	if (write(gate[1], &pid, sizeof pid) != sizeof pid) _exit(124);
}

void joined(void) { joined_as(getpid()); }

_Noreturn void stand(void) {
	joined();
	rest();
}

pid_t must_fork(void) {
	pid_t pid = fork();
	if (pid < 0) fail("fork");
	return pid;
}

int detached(void) {
	pid_t middle = must_fork();
	if (middle == 0) {
		setsid();
		if (must_fork()) _exit(0);
		return 0;
	}
	waitpid(middle, NULL, 0);
	return 1;
}

void wipe(void) {
	char *from = environ[0], *to = from;
	for (char **e = environ; *e; e++) to = *e + strlen(*e);
	if (from) memset(from, 0, to - from);
	environ = NULL;
}

void keep_to_one_processor(void) {
	cpu_set_t all, one;
	if (getenv("SAFEEXEC_TEST_SOAK") || sched_getaffinity(0, sizeof all, &all) < 0) return;
	for (int i = CPU_SETSIZE - 1; i >= 0; i--)
		if (CPU_ISSET(i, &all)) {
			CPU_ZERO(&one);
			CPU_SET(i, &one);
			sched_setaffinity(0, sizeof one, &one);
			return;
		}
}

int left(int seconds) { return time(NULL) - began < seconds; }

int main(int argc, char **argv) {
	began = time(NULL);
	if (argc < 2) return 125;
	int n = argc > 3 ? atoi(argv[3]) : 1;
	if (!strcmp(argv[1], "bystander")) bystander();
	if (!strcmp(argv[1], "churn")) churn(argc > 2 ? atoi(argv[2]) : 1);
	if (!strcmp(argv[1], "_stand")) { // no_environment, after its exec
		gate[1] = atoi(argv[2]);
		stand();
	}
	if (argc < 3) return 125;
	kind *build = NULL;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(argv[1], kinds[i].name)) build = kinds[i].build;
	if (!build) return 125;
	if (build != instant && pipe(gate) < 0) fail("pipe");

	int count = build(n);
	if (build == instant) _exit(0);
	close(gate[1]);
	printf("ready %d", getpid());
	for (int i = 0; i < count; i++) {
		pid_t pid;
		if (read(gate[0], &pid, sizeof pid) != sizeof pid) fail("a process of the tree ended");
		printf(" %d", pid);
	}
	printf("\n");
	fflush(stdout);
	if (!strcmp(argv[2], "leave")) _exit(0);
	rest();
}

int gate_fd(void) { return gate[1]; }
