// Whole only in the copy that .ci/osexec makes: there it gets the tests, the requirements of
// safeexec and its go.sum.
module github.com/seed841d8200/safeexec/internal/osexec

go 1.26

require github.com/seed841d8200/safeexec v0.0.0

replace github.com/seed841d8200/safeexec => ../..
