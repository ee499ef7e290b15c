package safeexec

import (
	"regexp"
	"strings"
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

// redacted returns what a report shows of a command line. It is cut before anything looks at it: an
// argument may be megabytes long.
func (c *config) redacted(command []string) []string {
	if len(command) == 0 || c.redact == nil {
		return nil
	}
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
	return c.redact(part)
}
