//go:build !linux

package testproc

import (
	"os"
	"time"
)

// watchdog ends this process after d, if it is not stopped then.
func watchdog(d time.Duration) {
	time.AfterFunc(d, func() { os.Exit(124) })
}
