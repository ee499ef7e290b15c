// Package guard ends the trees of a program that has died, by a small process beside it.
//
// The helper is the program's own file, executed once more. It lives in a session of its own, so that neither
// Ctrl-C nor a hangup reaches it, and is no child of the program, unless that adopts orphans, so that
// killing the program's tree does not end it first. It sleeps until the program is gone:
//
//   - its pidfd says so, pidfd_open(2), however it ended; or
//   - the socket between them is closed. That is also so when the program executes another. A child of the program
//     has a copy of its end from fork to exec, so that once it is closed every child has executed, and can be
//     told by its marks.
//
// A table, a file without a name that both have open, holds what to end then. A run writes there what identifies it
// before its start, and its leader right after it; at its end it removes both. Each of these is one pwrite(2) within a
// page, which a signal does not interrupt: a run is in the table wholly or not at all. The leader is that of the start
// whose number stands beside it, so that one from before counts for nothing. The helper does not read the table before
// the end, so that a run does not wake it. A helper that was killed is replaced, and the new one gets the same table.
package guard
