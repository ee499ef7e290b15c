package testproc

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// leakers are what TestLeaky does in a test binary that a test started. Those with an entry in
// leakOutput leave something behind; what they leave is seen by the check of the run, and of the test.
var leakers = map[string]func(t *testing.T){
	"nothing":   func(t *testing.T) {},
	"goroutine": func(t *testing.T) { go func() { select {} }() },
	"descriptor": func(t *testing.T) {
		f, err := os.Open("/dev/null")
		require.NoError(t, err)
		kept = append(kept, f)
	},
	"zombie": func(t *testing.T) {
		cmd := Command("exit", "0")
		require.NoError(t, cmd.Start())
		WaitState(t, cmd.Process.Pid, "Z")
	},
	"child": func(t *testing.T) {
		cmd := Command("hang")
		r, w, err := os.Pipe()
		require.NoError(t, err)
		cmd.Stdout = w
		cmd.Stderr = os.Stderr // whose end rerun waits for: if it returns, the child was killed
		require.NoError(t, cmd.Start())
		require.NoError(t, w.Close())
		Ready(t, r)
		require.NoError(t, r.Close())
	},
}

func init() {
	leakers["child after a failure"] = func(t *testing.T) {
		leakers["child"](t)
		t.Fail()
	}
}

// kept keeps leaked files from being closed by the garbage collector.
var kept []*os.File

// leakOutput is what the report holds of each leak.
var leakOutput = map[string]string{
	"nothing":    "PASS",
	"goroutine":  "goroutine left: found unexpected goroutines",
	"descriptor": "-> /dev/null",
	"zombie":     "child left: ",
	"child":      "child left: ",

	"child after a failure": "--- FAIL",
}

// TestLeaky does nothing unless another test selected a leak.
func TestLeaky(t *testing.T) {
	if leak := leakers[os.Getenv(leakVariable)]; leak != nil {
		leak(t)
	}
}

func TestLeakyChecked(t *testing.T) {
	if leak := leakers[os.Getenv(leakVariable)]; leak != nil {
		NoLeaks(t)
		leak(t)
	}
}

func TestLeaksAreFound(t *testing.T) {
	for leak := range leakOutput {
		for _, test := range []string{"TestLeaky", "TestLeakyChecked"} {
			t.Run(leak+"/"+test, func(t *testing.T) {
				t.Parallel()
				out, code := rerun(t, leak, "-test.run=^"+test+"$", "-test.v")
				if leak == "nothing" {
					assert.Zero(t, code, out)
					return
				}
				assert.Equal(t, 1, code, out)
				assert.Contains(t, out, leakOutput[leak])
				if leak == "zombie" {
					assert.Contains(t, out, "state Z")
				}
				if test == "TestLeakyChecked" || leak == "child after a failure" {
					assert.Contains(t, out, "--- FAIL: "+test)
				} else {
					assert.Contains(t, out, "--- PASS: TestLeaky")
				}
			})
		}
	}
}

func TestNoLeaksAcceptsWhatEnds(t *testing.T) {
	NoLeaks(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd := Command("exit", "0")
	cmd.Stdout = w
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	go func() { // ends when the child has ended, after the test has
		defer r.Close()
		r.Read(make([]byte, 1))
		cmd.Wait()
	}()
}
