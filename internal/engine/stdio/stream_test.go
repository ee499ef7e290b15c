package stdio

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Once it is known what is owed no pull is without a limit, also where that is nothing: zero would be.
func TestFinalPullsAreLimited(t *testing.T) {
	assert.Zero(t, (&Stream{Owed: 5}).Limit())
	assert.Equal(t, 5, (&Stream{Final: true, Owed: 5}).Limit())
	assert.Equal(t, 1, (&Stream{Final: true}).Limit())
	assert.Equal(t, 1, (&Stream{Final: true, Owed: -3}).Limit())
}
