package proctree

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Of trees that are ended together each asks only its own processes, whichever mark they have kept, and finds those
// that it finds alone.
func TestTreesThatAreEndedTogether(t *testing.T) {
	testproc.HasProgram(t, "prlimit")
	const script = `
sleep 600 & a=$!
env -i setsid sh -c 'echo ready $$; exec sleep 600' &
setsid prlimit --rttime=unlimited: sh -c 'echo ready $$; exec sleep 600' &
setsid sh -c 'sh -c "echo ready \$\$; exec sleep 600" & sleep 0' &
echo ready $$ $a
wait`
	var trees [2]Tree
	var born [2][]int
	for i := range trees {
		s := startGated(t, script)
		if s.tree.mark.tracks&TrackLimit == 0 {
			t.Skip("there is no limit mark")
		}
		for range 4 {
			born[i] = append(born[i], testproc.Ready(t, s.stdout)...)
		}
		slices.Sort(born[i])
		require.NoError(t, trees[i].Recall(s.tree.mark.Trace(Inspect(s.cmd.Process.Pid)), time.Now().Add(time.Minute)))
		defer trees[i].Forget()
	}
	stranger := exec.Command("sleep", "600")
	require.NoError(t, stranger.Start())
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }()

	assert.Same(t, everybody, censusFor(&trees[0]), "one tree")
	Share(len(trees))
	defer Share(0)
	assert.Same(t, stock, censusFor(&trees[0]))
	// On a busy machine an environment is not read in time, and then each tree asks for itself.
	ofTest := append([]int{stranger.Process.Pid}, slices.Concat(born[:]...)...)
	var r roll
	await(t, func() bool {
		clear(stockSilent)
		r.takeStock(1)
		return !slices.ContainsFunc(ofTest, func(pid int) bool {
			i := slices.Index(r.pids, pid)
			return i < 0 || !r.traits[i].known
		})
	})
	for i := range trees {
		trees[i].lookEnds = time.Time{} // as at the beginning of a look
		var asked []int
		r.each(&trees[i], func(pid int, _ origin) { asked = append(asked, pid) }, 0)
		assert.Subset(t, asked, born[i])
		assert.NotContains(t, asked, stranger.Process.Pid)
		for _, pid := range born[1-i] {
			assert.NotContains(t, asked, pid)
		}
		// Who has started the last one is gone some time.
		await(t, func() bool { return slices.Equal(born[i], pidsOf(membersOf(&trees[i]))) })
	}
}
