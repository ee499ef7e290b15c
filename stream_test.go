package safeexec

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Once it is known what is owed no pull is without a limit, also where that is nothing: zero would be.
func TestFinalPullsAreLimited(t *testing.T) {
	assert.Zero(t, (&stream{owed: 5}).limit())
	assert.Equal(t, 5, (&stream{final: true, owed: 5}).limit())
	assert.Equal(t, 1, (&stream{final: true}).limit())
	assert.Equal(t, 1, (&stream{final: true, owed: -3}).limit())
}
