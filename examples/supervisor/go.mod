module github.com/seed841d8200/safeexec/examples/supervisor

go 1.26.0

replace github.com/seed841d8200/safeexec => ../..

require (
	github.com/seed841d8200/safeexec v0.0.0-00010101000000-000000000000
	github.com/stretchr/testify v1.12.1
	github.com/thejerf/suture/v4 v4.0.6
)

require (
	go.uber.org/goleak v1.3.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.46.0 // indirect
)
