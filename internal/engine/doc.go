// Package engine does the work of a run and returns facts: it knows neither options nor the public types that facts
// become. Run.Supervise is the life of a command, and each phase has a file, and a type with what it alone knows:
//
//	config.go    its settings           facts.go     what it returns      errors.go  why nothing was started
//	start.go     examine, pipes, spawn  guarded.go   guard, cgroup, descriptors      stopped.go  the exec stop
//	run.go       Begin, Supervise, observe   reason.go    why a run must end   requests.go  requests from outside
//	background.go  what the leader left behind       report.go  why it is stuck      terminal.go  lent, and taken back
//	drain.go     the last bytes         reap.go      the leader's numbers are given up     conclude.go  after the end
//
// How the leader's exit is seen is in leader.go, calls from other goroutines in questions.go. How a tree is ended is
// in ladder, the streams are in stdio. A fake command is in play.go, the runs that StopAll ends
// are in stopall.go, and what the root needs beside runs is in names.go.
package engine
