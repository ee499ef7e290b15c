package job

import (
	"context"
	"errors"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Store is a directory of jobs. Several programs may use one at once, and several goroutines one
// Store.
type Store struct {
	root  string
	place place

	ctx  context.Context // done by Close
	quit context.CancelFunc

	mu      sync.Mutex
	keepers map[string]*keeper // by name
	closed  bool
}

// A Job is a job of a store, by its name: after a restart it is the new one.
type Job struct {
	store *Store
	name  string
}

// Open opens the store in a directory, which it makes if there is none, for this user alone. Call
// [Store.Adopt] next: until then the timeouts of jobs whose program has ended are not enforced.
func Open(dir string) (*Store, error) {
	if !proctree.Enumerates {
		return nil, safeexec.ErrUnsupported
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	at, err := here()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	if own, err := sys.Private(root); err != nil || !own { // what is in the records is executed
		return nil, errors.Join(ErrUnsafe, err)
	}
	s := &Store{root: root, place: at, keepers: make(map[string]*keeper)}
	s.ctx, s.quit = context.WithCancel(context.Background())
	return s, nil
}

// Close ends what this program does for the jobs, and leaves the jobs alone. It waits for its
// goroutines. A job's first process that this program has started and that ends afterwards stays a
// zombie until it is adopted again or this program ends.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	keepers := make([]*keeper, 0, len(s.keepers))
	for _, k := range s.keepers {
		keepers = append(keepers, k)
	}
	s.mu.Unlock()
	s.quit()
	for _, k := range keepers {
		k.wait()
	}
}

func (s *Store) dirOf(name string) string { return filepath.Join(s.root, name) }

func (j *Job) dir() string { return j.store.dirOf(j.name) }

// Name returns the job's name.
func (j *Job) Name() string { return j.name }

// LogPath returns the path of the job's log. It may begin with a hole, see [Log].
func (j *Job) LogPath() string { return filepath.Join(j.dir(), logFile) }

// List returns the jobs of the store by name, whatever they are like.
func (s *Store) List() ([]*Job, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var jobs []*Job
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(s.dirOf(name), recordFile)); err == nil {
			jobs = append(jobs, &Job{s, name})
		}
	}
	return jobs, nil
}

// names returns what jobs there may be.
func (s *Store) names() ([]string, error) {
	entries, err := os.ReadDir(s.root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && checkName(e.Name()) == "" {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Find returns the job of that name, or [ErrNoJob].
func (s *Store) Find(name string) (*Job, error) {
	if reason := checkName(name); reason != "" {
		return nil, &safeexec.ConfigError{Name: "Name", Reason: reason}
	}
	if _, err := os.Lstat(filepath.Join(s.dirOf(name), recordFile)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNoJob
		}
		return nil, wrap("find", name, err)
	}
	return &Job{s, name}, nil
}

// Clean removes the records and the logs of jobs that have ended, and returns their names. It
// leaves those of which it cannot tell. What a start has left that was killed before its record
// goes as well.
func (s *Store) Clean(ctx context.Context) ([]string, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var cleaned []string
	var errs []error
	for _, name := range names {
		removed, err := (&Job{s, name}).remove(ctx)
		if removed {
			cleaned = append(cleaned, name)
		}
		errs = append(errs, err)
	}
	return cleaned, errors.Join(errs...)
}

// remove removes a job that has ended.
func (j *Job) remove(ctx context.Context) (bool, error) {
	unlock, err := j.store.lock(ctx, j.name)
	if err != nil {
		return false, wrap("clean", j.name, err)
	}
	defer unlock()
	r, err := read(j.dir())
	if errors.Is(err, ErrNoJob) {
		// What a start leaves that was killed before its record has an empty log.
		if st, err := os.Lstat(j.LogPath()); err != nil || st.Size() == 0 {
			_ = removeFiles(j.dir())
		}
		return false, nil
	}
	if err != nil {
		return false, wrap("clean", j.name, err)
	}
	st, err := j.statusOf(r)
	if err != nil || st.State != Ended && st.State != Gone {
		return false, wrap("clean", j.name, err)
	}
	j.forgetKeeper()
	r.removeOutside()
	err = removeFiles(j.dir())
	return err == nil, wrap("clean", j.name, err)
}

// Forget removes the record of a job of another PID namespace, whose processes are not visible here;
// it signals no process. It is for a store that outlives its container. For other jobs the error is
// [ErrRunning]: see Clean.
func (j *Job) Forget(ctx context.Context) error {
	unlock, err := j.store.lock(ctx, j.name)
	if err != nil {
		return wrap("forget", j.name, err)
	}
	defer unlock()
	r, err := read(j.dir())
	if err == nil {
		if fit, e := j.store.fits(r); e != nil || fit != Elsewhere {
			err = errors.Join(ErrRunning, e)
		} else {
			err = removeFiles(j.dir())
		}
	}
	return wrap("forget", j.name, err)
}

// removeFiles removes the files of a job, the record first: without it there is no job, whatever is
// left. What is not ours stays.
func removeFiles(dir string) error {
	names := []string{recordFile, newRecord, logFile, inputFile, socketFile, keeperFile}
	holes, _ := filepath.Glob(filepath.Join(dir, holesFile+"*"))
	removeExits(dir)
	for _, path := range holes {
		names = append(names, filepath.Base(path))
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(syncDir(dir), os.Remove(dir))
}

// removeOutside removes what the job had outside its directory.
func (r *record) removeOutside() {
	if r.Settings.Socket != "" {
		_ = os.Remove(r.Settings.Socket)
		_ = os.Remove(filepath.Dir(r.Settings.Socket)) // if it was for the socket alone: another is not empty
	}
	removePIDFile(r)
}

// lockFile has a byte for the lock of each record. It is never removed: a process that waits for the lock
// of a removed file and one that comes later would lock different files.
const lockFile = "locks"

// placeOf is the place of the lock: two names that share one wait for each other, and that is all.
func placeOf(name string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return int64(h.Sum64() >> 2)
}

// lockBound is how long a lock is waited for. It is held for some writes to the disk and, by a
// start, for that.
const lockBound = 15 * time.Second

// lock locks the record of a job against others, this program's goroutines as well.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := s.lockOf(ctx, name)
	if err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

func (s *Store) lockOf(ctx context.Context, name string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.root, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lockBound, ErrBusy)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		locked, err := tryLock(f, placeOf(name))
		if err == nil && !locked {
			err = sleep(ctx, pause)
			if err == nil {
				continue
			}
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

func tryLock(f *os.File, at int64) (locked bool, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return false, err
	}
	if e := conn.Control(func(fd uintptr) { locked, err = sys.TryLock(int(fd), at) }); e != nil {
		return false, e
	}
	return locked, err
}

// sleep sleeps unless the context is done, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// update changes the record of a start, unless it is that of another by now.
func (j *Job) update(ctx context.Context, id startID, change func(*record)) error {
	unlock, err := j.store.lock(ctx, j.name)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := read(j.dir())
	if err != nil || r.id() != id {
		return err
	}
	change(r)
	return r.write(j.dir())
}
