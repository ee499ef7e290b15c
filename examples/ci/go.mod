module github.com/seed841d8200/safeexec/examples/ci

go 1.26.0

replace github.com/seed841d8200/safeexec => ../..

require (
	github.com/schollz/progressbar/v3 v3.19.1
	github.com/seed841d8200/safeexec v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5
	golang.org/x/term v0.48.0
)

require (
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
)
