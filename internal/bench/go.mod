module github.com/seed841d8200/safeexec/internal/bench

go 1.26.0

require (
	github.com/bitfield/script v0.25.2
	github.com/go-cmd/cmd v1.4.4
	github.com/seed841d8200/safeexec v0.0.0
	golang.org/x/perf v0.0.0-20260908200009-22c9c6c9d4da
	golang.org/x/sys v0.48.0
	k8s.io/utils v0.0.0-20260707023825-cf1189d6abe3
	mvdan.cc/sh/v3 v3.14.1
)

require (
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	github.com/itchyny/gojq v0.12.13 // indirect
	github.com/itchyny/timefmt-go v0.1.5 // indirect
	golang.org/x/term v0.45.0 // indirect
)

replace github.com/seed841d8200/safeexec => ../..
