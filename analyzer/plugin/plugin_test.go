package plugin

import (
	"testing"

	"github.com/golangci/plugin-module-register/register"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis"

	"github.com/seed841d8200/safeexec/analyzer"
)

// golangci-lint finds the plugin by its name, and gets from it what it runs.
func TestPlugin(t *testing.T) {
	make, err := register.GetPlugin("safeexec")
	require.NoError(t, err)
	for _, settings := range []any{nil, map[string]any{}} {
		p, err := make(settings)
		require.NoError(t, err)
		analyzers, err := p.BuildAnalyzers()
		require.NoError(t, err)
		assert.Equal(t, []*analysis.Analyzer{analyzer.Analyzer}, analyzers)
		assert.Equal(t, register.LoadModeTypesInfo, p.GetLoadMode())
	}
	_, err = make(map[string]any{"timeout": "1m"})
	assert.Error(t, err, "a setting that does nothing")
}
