package testproc

import (
	"os"
	"runtime"
	"syscall"
)

// OwnThread calls f on a thread that ends after it, whatever f makes of it. That is never the first thread, which would
// not end, and whose files, mounts and user are those of /proc/self.
func OwnThread(f func()) {
	done := make(chan struct{})
	var run func()
	run = func() {
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			go run()
			<-done // meanwhile the other one cannot come to the first thread
			runtime.UnlockOSThread()
			return
		}
		defer close(done)
		f()
	}
	go run()
	<-done
}
