package diagnose

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Those who ask while a list is made share the next one. Nobody is given one that was begun before the question.
func TestReportsShareAList(t *testing.T) {
	const askers = 20
	begun, goOn := make(chan int), make(chan bool)
	lists := 0
	c := &census{read: func() map[int][]int {
		lists++
		begun <- lists
		<-goOn
		return map[int][]int{7: {lists}}
	}}
	var first []int
	var later [askers][]int
	var wg sync.WaitGroup
	wg.Go(func() { first = c.members(7) })
	assert.Equal(t, 1, <-begun)
	for i := range askers {
		wg.Go(func() { later[i] = c.members(7) })
	}
	testproc.Wait(t, func() bool { return c.waiting.Load() == askers })
	goOn <- true
	assert.Equal(t, 2, <-begun)
	goOn <- true
	wg.Wait()
	assert.Equal(t, []int{1}, first)
	for _, found := range later {
		assert.Equal(t, []int{2}, found)
	}
	assert.Nil(t, c.last)
}

func TestSessionOfOurs(t *testing.T) {
	session, err := unix.Getsid(0)
	assert.NoError(t, err)
	assert.Contains(t, sessions.members(session), unix.Getpid())
	assert.Nil(t, sessions.last)
}
