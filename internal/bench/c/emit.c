// emit BYTES CHUNK writes BYTES bytes to standard output, CHUNK at a time: lines of 16 bytes.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
	if (argc != 3)
		return 2;
	long long left = atoll(argv[1]);
	size_t chunk = (size_t)atoll(argv[2]);
	char *p = malloc(chunk + 16);
	if (p == NULL || chunk == 0)
		return 2;
	for (size_t i = 0; i < chunk; i += 16)
		memcpy(p + i, "0123456789abcde\n", 16);
	while (left > 0) {
		size_t want = (long long)chunk < left ? chunk : (size_t)left;
		for (size_t done = 0; done < want;) {
			ssize_t n = write(1, p + done, want - done);
			if (n <= 0)
				return 1;
			done += (size_t)n;
		}
		left -= (long long)want;
	}
	return 0;
}
