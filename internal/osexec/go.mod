module github.com/seed841d8200/safeexec/internal/osexec

go 1.26

require github.com/seed841d8200/safeexec v0.0.0

require golang.org/x/sys v0.49.0 // indirect

replace github.com/seed841d8200/safeexec => ../..
