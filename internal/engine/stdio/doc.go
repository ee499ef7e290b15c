// Package stdio has the standard streams of a command: their pipes, and where their bytes go.
package stdio
