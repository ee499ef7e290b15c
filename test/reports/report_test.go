package reports_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec"
)

func TestRedactSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, out []string }{
		{nil, []string{}},
		{[]string{"sleep", "60"}, []string{"sleep", "60"}},
		{[]string{"x", "--password", "s3cret", "-v"}, []string{"x", "--password", "***", "-v"}},
		{[]string{"x", "--password", "-v"}, []string{"x", "--password", "-v"}},
		{[]string{"x", "--password=s3cret"}, []string{"x", "--password=***"}},
		{[]string{"x", "-token=s3cret", "b"}, []string{"x", "-token=***", "b"}},
		{[]string{"env", "AWS_SECRET_ACCESS_KEY=s3cret", "x"}, []string{"env", "AWS_SECRET_ACCESS_KEY=***", "x"}},
		{[]string{"sh", "-c", "PGPASSWORD=s3cret psql -h db"}, []string{"sh", "-c", "PGPASSWORD=*** psql -h db"}},
		{[]string{"sh", "-c", "x --api-key 's3cret one' y"}, []string{"sh", "-c", "x --api-key *** y"}},
		{[]string{"git", "clone", "https://me:s3cret@host/x"}, []string{"git", "clone", "https://me:***@host/x"}},
		{[]string{"git", "clone", "https://host:443/x@y"}, []string{"git", "clone", "https://host:443/x@y"}},
		{[]string{"curl", "-H", "Authorization: Bearer s3cret"}, []string{"curl", "-H", "Authorization: *** ***"}},
		{[]string{"x", "ghp_0123456789abcdef"}, []string{"x", "***"}},
		{[]string{"x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s3cret"}, []string{"x", "***"}},
		{[]string{"--password", "shown"}, []string{"--password", "shown"}},
	} {
		before := append([]string(nil), c.in...)
		assert.Equal(t, c.out, safeexec.RedactSecrets(c.in), "%q", c.in)
		assert.Equal(t, before, append([]string(nil), c.in...), "what it got is not changed")
	}
}
