// Package engine does the work of a run and of KillTree, and returns facts: it knows neither options nor the
// public types that facts become.
package engine
