// sleeper [SECONDS] sleeps, 300 seconds unless told otherwise, and ends.
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
	alarm(argc > 1 ? (unsigned)atoi(argv[1]) : 300);
	for (;;)
		pause();
}
