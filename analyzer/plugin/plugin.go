// Package plugin makes the analyzer a module plugin of golangci-lint. A .custom-gcl.yml names this package, and
// .golangci.yml enables "safeexec" as a linter of type "module"; see the README of the module.
package plugin

import (
	"github.com/golangci/plugin-module-register/register"
	"golang.org/x/tools/go/analysis"

	"github.com/seed841d8200/safeexec/analyzer"
)

func init() { register.Plugin(analyzer.Analyzer.Name, New) }

// New returns the plugin. It has no settings, and refuses any.
func New(settings any) (register.LinterPlugin, error) {
	if settings != nil {
		if _, err := register.DecodeSettings[struct{}](settings); err != nil {
			return nil, err
		}
	}
	return linter{}, nil
}

type linter struct{}

func (linter) BuildAnalyzers() ([]*analysis.Analyzer, error) {
	return []*analysis.Analyzer{analyzer.Analyzer}, nil
}

func (linter) GetLoadMode() string { return register.LoadModeTypesInfo }
