// Package test holds, in its folders, the tests that see safeexec as a program does and that are too long, or of
// too many cases, to stand beside what they test.
package test
