// Package ladder ends trees, of a run and of KillTree: the terminating signal, the grace period, SIGKILL, and the look
// that finds the tree empty.
package ladder
