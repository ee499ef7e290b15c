package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

const version = 1

// The phases of a record.
const (
	phaseStarting = "starting" // an intent: it may have been started, and has no number yet
	phaseStarted  = "started"
	phaseEnded    = "ended"
)

// A record is all that is known of a job, and what it takes to start it again. Each write replaces
// the file at once, and is on the disk before the step that it announces is taken.
type record struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Run     int    `json:"run"` // counts the starts
	Phase   string `json:"phase"`

	Command  command  `json:"command"`
	Settings settings `json:"settings"`

	// The identity: without the same boot and PID namespace the trace means nothing.
	Boot      string         `json:"boot"`
	Namespace string         `json:"namespace"` // of PIDs, and of the time since boot
	Trace     proctree.Trace `json:"trace"`

	Started  time.Time     `json:"started"`
	Deadline time.Duration `json:"deadline"` // since boot; 0 for none
	LogFrom  int64         `json:"log_from"` // where in the log this run begins
	Ready    bool          `json:"ready"`
	Text     string        `json:"text"` // STATUS= of sd_notify(3)

	Exit   *Exit     `json:"exit,omitempty"` // of the first process
	Used   *Usage    `json:"used,omitempty"` // likewise
	Ended  time.Time `json:"ended,omitzero"`
	Reason Reason    `json:"reason"`
}

// A startID names one start of a job. The count alone does not: it begins anew once the record was removed.
type startID struct {
	run  int
	mark string
}

func (r *record) id() startID { return startID{r.Run, r.Trace.Environ} }

// A command is what is started. Its strings need not be UTF-8, which JSON's have to be.
type command struct {
	Path []byte    `json:"path"`
	Args rawList   `json:"args"`
	Env  rawList   `json:"env"`
	Dir  []byte    `json:"dir"`
	User *sys.User `json:"user,omitempty"`
}

type rawList [][]byte

func raw(list []string) rawList {
	l := make(rawList, 0, len(list))
	for _, s := range list {
		l = append(l, []byte(s))
	}
	return l
}

func (l rawList) strings() []string {
	list := make([]string, 0, len(l))
	for _, b := range l {
		list = append(list, string(b))
	}
	return list
}

// settings are the options that a restart needs.
type settings struct {
	Timeout  time.Duration  `json:"timeout"` // 0 for Endless
	Grace    time.Duration  `json:"grace"`
	Kill     time.Duration  `json:"kill"`
	LogMax   int64          `json:"log_max"`
	LogKeep  int64          `json:"log_keep"`
	Umask    *int           `json:"umask,omitempty"`
	OOMScore *int           `json:"oom_score_adj,omitempty"`
	Limits   map[int]uint64 `json:"limits,omitempty"` // by safeexec.Resource
	Input    bool           `json:"input"`
	Notify   bool           `json:"notify"`
	Socket   string         `json:"socket,omitempty"` // of Notify
	Watchdog time.Duration  `json:"watchdog"`
	PIDFile  string         `json:"pid_file,omitempty"`

	KeepStatus bool `json:"keep_status,omitempty"`
}

// The files of a job, in its directory.
const (
	recordFile = "record"
	newRecord  = "record.new"
	logFile    = "log"
	inputFile  = "input"
	socketFile = "notify"
	keeperFile = "keeper"
	holesFile  = "holes-" // and more; it lives for a moment
)

// read reads the record of a job.
func read(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, ErrNoJob
		}
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if r.Version != version || r.Name != filepath.Base(dir) {
		return nil, fmt.Errorf("%w: version %d of %q", ErrRecord, r.Version, r.Name)
	}
	r.addExit(dir)
	return &r, nil
}

// write replaces the record. The caller has its lock.
func (r *record) write(dir string) error {
	r.Version = version
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, recordFile), filepath.Join(dir, newRecord), append(data, '\n'), 0o600)
}

// replace writes a file at once, through another of the same directory, and to the disk. What is
// there under the other's name is not written to: in a directory that others may write to, it could
// be a link of theirs.
func replace(path, through string, data []byte, mode os.FileMode) error {
	_ = os.Remove(through)
	f, err := os.OpenFile(through, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	// Whatever the umask, which may be the job's.
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(through, path)
	}
	if err != nil {
		_ = os.Remove(through)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A place is where the numbers of processes mean something.
type place struct{ boot, namespace string }

func here() (place, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return place{}, err
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return place{}, err
	}
	// Start times and the deadline are counted from the boot as the time namespace has it; where
	// the kernel has none there is one.
	if clock, err := os.Readlink("/proc/self/ns/time"); err == nil {
		namespace += " " + clock
	}
	return place{strings.TrimSpace(string(boot)), namespace}, nil
}

// ticks returns the time since boot in the unit of start times.
func ticks() uint64 {
	now, err := sys.Boottime()
	if err != nil {
		return 1
	}
	return uint64(now / (10 * time.Millisecond))
}

// checkName refuses what is no plain file name.
func checkName(name string) string {
	if name == "" || len(name) > 64 || name[0] == '.' || name == lockFile {
		return "must have 1 to 64 bytes, not begin with a dot and not be " + lockFile
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-", c) >= 0) {
			return "must consist of letters, digits, dots, dashes and underscores"
		}
	}
	return ""
}
