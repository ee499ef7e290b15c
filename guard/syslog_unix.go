//go:build unix

package guard

import (
	"log/slog"
	"log/syslog"
)

type toSyslog string

// Syslog has the guard write the records of [LogFile] to the system's log, syslog(3), under the given tag. Whether
// there is one is not checked: it may be started later.
func Syslog(tag string) Option { return toSyslog(tag) }

func (s toSyslog) check() error { return nil }

func (s toSyslog) open() *slog.Logger {
	w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, string(s))
	if err != nil {
		return nil
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}
