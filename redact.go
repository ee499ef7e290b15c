package safeexec

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/diagnose"
)

// redactedText stands for what is not shown.
const redactedText = "***"

// Bounds on what a report keeps of one command line.
const (
	maxCommandArgs = 64
	maxCommandSize = 4 << 10 // bytes, all arguments together
)

// RedactSecrets is a function for [WithRedact]: it takes out of a command line what looks like a secret,
// and shows the rest.
//
// Replaced by "***" are the values of options and assignments whose name speaks of a password, token,
// secret, key, credential, cookie or authorization; the password in a URL; what follows "Bearer" and
// "Basic"; and tokens of the forms that GitHub, GitLab, Slack, AWS, OpenAI and JSON Web Tokens have,
// wherever they stand. That is a guess: a secret that looks like anything else, such as a bare
// argument or "-pSECRET", is shown.
func RedactSecrets(command []string) []string {
	out := make([]string, len(command))
	secretNext := false
	for i, arg := range command {
		switch {
		case secretNext && !strings.HasPrefix(arg, "-"):
			out[i] = redactedText
			secretNext = false
			continue
		case i > 0 && secretOption.MatchString(arg):
			secretNext = true
		default:
			secretNext = false
		}
		out[i] = redactText(arg)
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
		{regexp.MustCompile(`(?i)(\b(?:bearer|basic|token)\s+)[^\s'"]+`), "${1}" + redactedText},
		{regexp.MustCompile(`(?i)(` + secretName + `\s*[=:]\s*)(?:"[^"]*"|'[^']*'|[^\s'"&;|]+)`), "${1}" + redactedText},
		{
			regexp.MustCompile(`(?i)(--?` + secretName + `\s+)(?:"[^"]*"|'[^']*'|[^\s'"&;|-][^\s'"&;|]*)`),
			"${1}" + redactedText,
		},
		{regexp.MustCompile(`(\w[\w+.-]*://[^\s/:@'"]*:)[^\s/@'"]+@`), "${1}" + redactedText + "@"},
		{regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|AKIA|ASIA)[\w-]{8,}`), redactedText},
		{regexp.MustCompile(`\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*`), redactedText},
	}
)

func redactText(s string) string {
	for _, p := range secretPatterns {
		s = p.pattern.ReplaceAllString(s, p.with)
	}
	return s
}

// shortened returns a copy of a command line, cut before anything looks at it: an argument may be
// megabytes long.
func shortened(command []string) []string {
	var part []string
	size := 0
	for _, arg := range command {
		if len(part) == maxCommandArgs || size >= maxCommandSize {
			part = append(part, "…")
			break
		}
		if room := maxCommandSize - size; len(arg) > room {
			// What is cut off could be the end of a secret's name, so what is left is looked at all
			// the same.
			arg = arg[:room] + "…"
		}
		size += len(arg)
		part = append(part, arg)
	}
	return part
}

// A RedactError says that the function of [WithRedact] failed: it panicked, ended its goroutine, or did
// not return within a second, for all command lines of a report together. Those that it had not returned
// by then are missing. A run that did not fail otherwise has no error for that, but Result.Command is nil.
type RedactError struct {
	// Panic is the value of the panic, nil if there was none. It may hold a command line, so the text of
	// the error does not.
	Panic any
	Stuck bool // it did not return, and a goroutine is left with it
}

func (e *RedactError) Error() string {
	switch {
	case e.Stuck:
		return fmt.Sprintf("safeexec: function of WithRedact does not return (waited %v)", redactBound)
	case e.Panic != nil:
		return fmt.Sprintf("safeexec: function of WithRedact panicked with a %T", e.Panic)
	}
	return "safeexec: function of WithRedact ended its goroutine"
}

// redactBound is how long the function may take for all command lines of a report.
const redactBound = time.Second

// redactAll has f redact command lines, on a goroutine that is left behind if it does not return until
// the bound has passed or ctx is done. An empty command line is not shown to it.
func redactAll(ctx context.Context, f func([]string) []string, commands [][]string) ([][]string, error) {
	type answer struct {
		index   int
		command []string
		err     *RedactError
	}
	answers := make(chan answer, len(commands)+1) // never blocks the goroutine
	var quit atomic.Bool
	go func() {
		defer close(answers)
		failure := new(RedactError) // unless f returns: it may call runtime.Goexit
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
	ctx, cancel := context.WithTimeout(ctx, redactBound)
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
			return out, &RedactError{Stuck: true}
		}
	}
}

// redact fills in the command lines of a report that was made from s.
func redactReport(ctx context.Context, r *Report, s *diagnose.Snapshot, f func([]string) []string) error {
	if s == nil || f == nil {
		return nil
	}
	out, err := redactAll(ctx, f, commandsOf(s))
	for i := range out {
		r.Processes[i].Command = out[i]
	}
	return err
}

func commandsOf(s *diagnose.Snapshot) [][]string {
	commands := make([][]string, len(s.Processes))
	for i := range s.Processes {
		commands[i] = shortened(s.Processes[i].Command)
	}
	return commands
}

// redact fills in all command lines, once the tree has ended: until then nothing waits for the caller's
// function.
func (r *run) redact() {
	if end := r.life.Facts.End; end != nil {
		r.redactErr = end.Redact
	}
	if r.cfg.redact == nil {
		return
	}
	commands := [][]string{r.args}
	if s := r.life.Facts.Snapshot; s != nil {
		commands = append(commands, commandsOf(s)...)
	}
	out, err := redactAll(context.Background(), r.cfg.redact, commands)
	r.result.Command = out[0]
	for i, command := range out[1:] {
		r.result.Report.Processes[i].Command = command
	}
	r.redactErr = err
	if e, ok := err.(*RedactError); ok && e.Stuck { //nolint:errorlint // our own, not wrapped
		r.result.Abandoned = append(r.result.Abandoned, AbandonedRedact)
	}
	r.args, r.life.Facts.Snapshot = nil, nil
}
