//go:build !linux

package guard

// Init does nothing here.
func Init(Log) {}
