package testproc

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDisabled(t *testing.T) {
	for value, want := range map[string][]string{
		"":                     nil,
		"pidfd":                {"pidfd"},
		"pidfd,close_range":    {"pidfd", "close_range"},
		" pidfd, close_range,": {"pidfd", "close_range"},
	} {
		t.Setenv(DisableVariable, value)
		assert.ElementsMatch(t, want, Disabled(), value)
	}
	t.Setenv(DisableVariable, "pidfd,epoll")
	assert.True(t, IsDisabled("epoll"))
	assert.False(t, IsDisabled("poll"))
}

func TestHasProgram(t *testing.T) {
	assert.True(t, filepath.IsAbs(HasProgram(t, "sh")))
	skipped := false
	t.Run("absent", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		HasProgram(t, "no-such-program-anywhere")
	})
	assert.True(t, skipped)
}
