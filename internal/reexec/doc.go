// Package reexec starts a copy of the program that outlives it: the program's own file, executed once more, in a
// session of its own, as no child of the program. A socket between them says when either is gone.
package reexec
