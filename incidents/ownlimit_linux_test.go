package incidents

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// TestIncidentOwnLimit: a program that set RLIMIT_RTTIME, which bears a run's mark, to a number of its own was taken for
// another run's, and lived on.
//
// It is found by the other tracks, whatever the number is.
func TestIncidentOwnLimit(t *testing.T) {
	for _, name := range []string{"setsid", "prlimit", "env"} {
		testproc.HasProgram(t, name)
	}
	for _, limit := range []uint64{1 << 62, 1<<62 + 1, 1<<62 + 12345<<31 + 54321, 1<<63 - 1, 1<<62 + 7<<31, 1<<61 + 1} {
		for _, with := range []string{"setsid", "setsid env -i"} {
			t.Run(fmt.Sprint(limit, with), func(t *testing.T) {
				args := append(strings.Fields(with), "prlimit", "--rttime="+strconv.FormatUint(limit, 10)+":")
				cmd := exec.Command("sh", append([]string{"-c", `pid=$("$@" sh -c 'echo $$; exec sleep 600 >/dev/null' </dev/null 2>/dev/null &); echo "$pid"; exit 0`, "sh"}, args...)...)
				canary := testproc.WithCanary(t, cmd)
				res, err := safeexec.Run(testproc.Deadline(t), cmd)
				if strings.Contains(with, "env -i") && !res.Tracks.Has(safeexec.TrackSlice) {
					t.Skip("nothing is left to find it by")
				}
				require.NoError(t, err)
				daemon, err := strconv.Atoi(strings.TrimSpace(res.Stdout.String()))
				require.NoError(t, err)
				assert.Equal(t, []int{daemon}, testrun.PIDs(res.Killed))
				canary.WaitGone(t)
			})
		}
	}
}
