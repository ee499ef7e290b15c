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
	c.soft = time.Unix(1, 0)
	assert.Empty(t, c.membersOf(session), "there is no time to list them")
}
