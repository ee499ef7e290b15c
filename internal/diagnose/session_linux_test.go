package diagnose

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestSessionOfOurs(t *testing.T) {
	session, err := unix.Getsid(0)
	assert.NoError(t, err)
	c := collector{soft: time.Now().Add(time.Minute)}
	assert.Contains(t, c.membersOf(session), unix.Getpid())

	defer func(read func(*map[int][]int, int)) { sessions.Read = read }(sessions.Read)
	begun, goOn := make(chan struct{}), make(chan struct{})
	sessions.Read = func(*map[int][]int, int) {
		begun <- struct{}{}
		<-goOn
	}
	c.soft = time.Now().Add(time.Minute)
	found := make(chan []int)
	go func() { found <- c.membersOf(session) }()
	<-begun
	late := collector{soft: time.Now().Add(time.Millisecond)}
	assert.Empty(t, late.membersOf(session), "they are not listed in time")
	close(goOn)
	<-found
}
