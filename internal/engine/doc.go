// Package engine does the work of a run and returns facts. It knows neither options nor the public types that facts
// become. Run.Supervise is the life of a command. Most phases have a file, and a type around Run with what only that
// phase knows; the rest are methods of Run:
//
//	config.go    its settings           facts.go        what it returns     errors.go    why nothing was started
//	start.go     examine, pipes, spawn  guarded.go      guard, cgroup       stopped.go   the exec stop
//	run.go       Begin, Supervise       descriptors.go  audit, policy       requests.go  requests from outside
//	reason.go    when a run must end    background.go   what is left        report.go    why it is stuck
//	drain.go     the last bytes         reap.go         numbers given up    conclude.go  after the end
//
// A terminal is lent and taken back in terminal.go, the leader's exit is in leader.go, calls from other goroutines in
// questions.go, a fake command in play.go, StopAll in stopall.go, and what the root needs beside runs in names.go.
// Package ladder ends a tree, and stdio has the streams.
package engine
