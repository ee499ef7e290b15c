//go:build !linux

package sys

import "os"

// UsageOf returns the processor time of a process that was reaped: what else there is has other units here.
func UsageOf(state *os.ProcessState) (Usage, bool) {
	return Usage{User: state.UserTime(), System: state.SystemTime()}, true
}
