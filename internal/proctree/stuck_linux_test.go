package proctree

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A look whose list is not made in its time is over and proves nothing, whichever tree's look the list is made for.
func TestLookWhoseListIsStuck(t *testing.T) {
	s := startGated(t, "sleep 600 & echo ready $!; wait")
	born := testproc.Ready(t, s.stdout)
	s.tree.born.started, s.tree.born.serial = time.Time{}, 0 // every process is checked
	defer func(read func(*roll, int)) { everybody.Read = read }(everybody.Read)
	begun, goOn := make(chan struct{}, 1), make(chan struct{})
	defer close(goOn)
	everybody.Read = func(*roll, int) {
		begun <- struct{}{}
		<-goOn
	}
	looked := make(chan bool)
	look := func(tree *Tree) {
		_, sure := tree.Live()
		looked <- sure
	}
	other := s.tree
	defer other.Close()
	go look(&s.tree)
	<-begun
	go look(&other)
	deadline := testproc.Deadline(t)
	for range 2 {
		select {
		case sure := <-looked:
			assert.False(t, sure)
		case <-deadline.Done():
			assert.Fail(t, "the look waits for its list")
		}
	}
	await(t, func() bool { // the leader's children are known all the same, if not by a busy machine's first look
		s.tree.Live()
		return slices.Equal(born, pidsOf(s.tree.list()))
	})
}
