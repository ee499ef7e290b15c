// Package rand is the chance of a simulated machine.
package rand

import "github.com/seed841d8200/safeexec/internal/model/testdata/kernel"

func Uint32() uint32 { return kernel.K.Uint32() }
