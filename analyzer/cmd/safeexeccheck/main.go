// Command safeexeccheck reports commands that are started without a bound, see package analyzer.
//
//	safeexeccheck ./...
//	safeexeccheck -fix ./...
//	go vet -vettool=$(which safeexeccheck) ./...
package main

import (
	"golang.org/x/tools/go/analysis/singlechecker"

	"github.com/seed841d8200/safeexec/analyzer"
)

func main() { singlechecker.Main(analyzer.Analyzer) }
