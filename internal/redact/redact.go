// Package redact takes secrets out of command lines, and bounds the function that does.
package redact

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// text stands for what is not shown.
const text = "***"

// Bounds on what is kept of one command line.
const (
	maxArgs = 64
	maxSize = 4 << 10 // bytes, all arguments together
)

// Secrets takes out of a command line what looks like a secret.
func Secrets(command []string) []string {
	out := make([]string, len(command))
	secretNext := false
	for i, arg := range command {
		switch {
		case secretNext && !strings.HasPrefix(arg, "-"):
			out[i] = text
			secretNext = false
			continue
		case i > 0 && secretOption.MatchString(arg):
			secretNext = true
		default:
			secretNext = false
		}
		out[i] = withoutSecrets(arg)
	}
	return out
}

const secretName = `[\w.-]*(?:passw(?:or)?d|passphrase|pwd|token|secret|api[_-]?key|access[_-]?key|` +
	`private[_-]?key|credential|cookie|auth)[\w.-]*`

var (
	// secretOption is an option whose value is the next argument.
	secretOption = regexp.MustCompile(`(?i)^--?` + secretName + `$`)

	// Within an argument, which may be the text of a script.
	secretPatterns = []struct {
		pattern *regexp.Regexp
		with    string
	}{
		{regexp.MustCompile(`(?i)(\b(?:bearer|basic|token)\s+)[^\s'"]+`), "${1}" + text},
		{regexp.MustCompile(`(?i)(` + secretName + `\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s'"&;|]+)`), "${1}" + text},
		{
			regexp.MustCompile(`(?i)(--?` + secretName + `\s+)(?:"[^"]*"|'[^']*'|[^\s'"&;|-][^\s'"&;|]*)`),
			"${1}" + text,
		},
		{regexp.MustCompile(`(\w[\w+.-]*://[^\s/:@'"]*:)[^\s/@'"]+@`), "${1}" + text + "@"},
		{regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|AKIA|ASIA)[\w-]{8,}`), text},
		{regexp.MustCompile(`\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*`), text},
	}
)

func withoutSecrets(s string) string {
	for _, p := range secretPatterns {
		s = p.pattern.ReplaceAllString(s, p.with)
	}
	return s
}

// Shortened returns a copy of a command line, cut before anything looks at it: an argument may be
// megabytes long.
func Shortened(command []string) []string {
	var part []string
	size := 0
	for _, arg := range command {
		if len(part) == maxArgs || size >= maxSize {
			part = append(part, "…")
			break
		}
		if room := maxSize - size; len(arg) > room {
			// What is cut off could be the end of a secret's name, so what is left is looked at all
			// the same.
			arg = arg[:room] + "…"
		}
		size += len(arg)
		part = append(part, arg)
	}
	return part
}

// A Failure is a function that panicked, ended its goroutine, or did not return.
type Failure struct {
	Panic any
	Stuck bool // it did not return, and a goroutine is left with it
}

// Bound is how long the function may take for all command lines of a report.
const Bound = time.Second

// All has f redact command lines, on a goroutine that is left behind if it does not return until
// the bound has passed or ctx is done. An empty command line is not shown to it.
func All(ctx context.Context, f func([]string) []string, commands [][]string) ([][]string, *Failure) {
	type answer struct {
		index   int
		command []string
		err     *Failure
	}
	answers := make(chan answer, len(commands)+1) // never blocks the goroutine
	var quit atomic.Bool
	go func() {
		defer close(answers)
		failure := new(Failure) // unless f returns: it may call runtime.Goexit
		defer func() {
			if failure != nil {
				failure.Panic = recover()
				answers <- answer{err: failure}
			}
		}()
		for i, command := range commands {
			if len(command) > 0 && !quit.Load() {
				answers <- answer{index: i, command: f(command)}
			}
		}
		failure = nil
	}()
	defer quit.Store(true)
	ctx, cancel := context.WithTimeout(ctx, Bound)
	defer cancel()
	out := make([][]string, len(commands))
	for {
		select {
		case a, more := <-answers:
			switch {
			case !more:
				return out, nil
			case a.err != nil:
				return out, a.err
			}
			out[a.index] = a.command
		case <-ctx.Done():
			return out, &Failure{Stuck: true}
		}
	}
}
