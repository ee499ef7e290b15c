package preflight

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	sys.LearnRoot() // so that all tests look without a goroutine where that can be done
	testproc.Main(m)
}

// A looking is a Look under way.
type looking struct {
	Look
	ctx  context.Context
	told chan struct{}
}

func begin(t testing.TB, dir, path string) *looking {
	l := &looking{ctx: testproc.Deadline(t), told: make(chan struct{}, 2)}
	l.Begin(&exec.Cmd{Dir: dir, Path: path}, func() { l.told <- struct{}{} })
	return l
}

// wait waits until the look is over.
func (l *looking) wait(t testing.TB) {
	t.Helper()
	if l.Await() {
		return
	}
	select {
	case <-l.told:
		assert.True(t, l.Done(), "notify is called when it is over, not before")
	case <-l.ctx.Done():
		t.Error("the look does not end")
	}
}

func look(t testing.TB, dir, path string) error {
	t.Helper()
	testproc.NoLeaks(t)
	l := begin(t, dir, path)
	l.wait(t)
	if l.BadDir() {
		return DirError(dir)
	}
	return nil
}

// script writes an executable file.
func script(t testing.TB, path, text string) string {
	t.Helper()
	testproc.WriteExecutable(t, path, []byte(text), 0o755)
	return path
}

func TestNothingToSay(t *testing.T) {
	dir := t.TempDir()
	for i, path := range []string{
		"/bin/true", "", "missing", dir, dir + "/missing", "\x00",
		script(t, dir+"/empty", ""), script(t, dir+"/text", "hello"), script(t, dir+"/no-interpreter", "#!"),
		script(t, dir+"/blank", "#! \t\n"), script(t, dir+"/sh", "#! /bin/sh -e\n"), script(t, dir+"/unended", "#!/bin/sh"),
		script(t, dir+"/self", "#!"+dir+"/self\n"), script(t, dir+"/dir", "#!"+dir+"\n"),
		script(t, dir+"/long", "#!/"+string(make([]byte, 4096))),
	} {
		for _, in := range []string{"", dir} {
			t.Run(fmt.Sprint(i, in != ""), func(t *testing.T) { assert.NoError(t, look(t, in, path)) })
		}
	}
}

// Two scripts that are each other's interpreter, and what execve says of them stays execve's.
func TestLoopEnds(t *testing.T) {
	dir := t.TempDir()
	script(t, dir+"/a", "#!"+dir+"/b\n")
	script(t, dir+"/b", "#!"+dir+"/a\n")
	assert.NoError(t, look(t, "", dir+"/a"))
	assert.ErrorIs(t, exec.Command(dir+"/a").Run(), syscall.ELOOP)
}

func TestUnreadableProgram(t *testing.T) {
	if !testproc.Unprivileged() {
		t.Skip("root reads everything")
	}
	program, err := os.ReadFile(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(path, program, 0o111))
	assert.NoError(t, look(t, "", path))
	assert.NoError(t, exec.Command(path).Run(), "it can be executed all the same")
}

// A FIFO that nobody writes to would hold up an open that waits.
func TestFIFO(t *testing.T) {
	dir := t.TempDir()
	fifo := dir + "/fifo"
	require.NoError(t, syscall.Mkfifo(fifo, 0o755))
	assert.NoError(t, look(t, "", fifo))
	assert.NoError(t, look(t, "", script(t, dir+"/script", "#!"+fifo+"\n")))
	assert.ErrorIs(t, look(t, fifo, "/bin/true"), syscall.ENOTDIR)
}

func TestDirErrors(t *testing.T) {
	dir := t.TempDir()
	file := script(t, dir+"/file", "")
	require.NoError(t, os.Symlink("loop", dir+"/loop"))
	for _, c := range []struct {
		dir string
		err error
	}{
		{dir + "/missing", syscall.ENOENT},
		{file, syscall.ENOTDIR},
		{file + "/below", syscall.ENOTDIR},
		{dir + "/loop", syscall.ELOOP},
		{"a\x00b", syscall.EINVAL},
	} {
		err := look(t, c.dir, "/bin/true")
		require.ErrorIs(t, err, c.err, "%q", c.dir)
		var pe *os.PathError
		require.ErrorAs(t, err, &pe)
		assert.Equal(t, "chdir", pe.Op)
		assert.Equal(t, c.dir, pe.Path)
	}
	// As os/exec says it, where it does.
	cmd := exec.Command("/bin/true")
	cmd.Dir = dir + "/missing"
	assert.Equal(t, cmd.Start(), look(t, cmd.Dir, "/bin/true"))
	assert.NoError(t, look(t, ".", "/bin/true"))
	assert.NoError(t, look(t, dir, "/bin/true"))
}

// known has the files read once: without waiting nothing is read.
func known(dir, path string) *Look {
	l := &Look{dir: dir, path: path}
	l.look()
	return l
}

// What can be looked at without waiting is, and what cannot is left to the goroutine.
func TestLookWithoutWaiting(t *testing.T) {
	dir := t.TempDir()
	file := script(t, dir+"/sh", "#! "+script(t, dir+"/program", "text")+"\n")
	skipUncached(t, file)
	cached := func(dir, path string) {
		t.Helper()
		l := known(dir, path)
		require.Eventually(t, l.cached, time.Minute, time.Millisecond, // a rename somewhere has it give up
			"%q %q", dir, path)
	}
	for _, in := range []string{"", dir} {
		cached(in, file)
	}
	cached(dir, "sh")
	cached(dir, "./program")
	for _, at := range []int{100, 5000} { // in the page, and beyond it
		cached("", script(t, dir+"/elf", elfProgram(elf64, binary.LittleEndian, at, dir+"/program")))
	}
	assert.False(t, (&Look{path: script(t, dir+"/new", "text")}).cached(), "nobody has read it")
	for _, c := range []struct{ dir, path string }{
		{"", dir + "/missing"},
		{"", "sh"},
		{"", script(t, dir+"/elsewhere", elfProgram(elf64, binary.LittleEndian, 100, "/proc/self/exe"))},
		{"", script(t, dir+"/nowhere", elfProgram(elf64, binary.LittleEndian, 100, dir+"/missing"))},
		{"", script(t, dir+"/away", "#!/proc/self/exe\n")},
		{dir + "/missing", file},
		{"/proc", file},
		{file, file},
	} {
		assert.False(t, known(c.dir, c.path).cached(), "%v", c)
	}
	t.Setenv("PWD", "/proc")
	assert.False(t, (&Look{dir: ".", path: file, abs: true}).cached(), "os/exec will look at it")
}

func skipUncached(t *testing.T, path string) {
	t.Helper()
	sys.LearnRoot()
	place, err := sys.FindCached(sys.Cwd, path)
	if err != nil {
		t.Skip("nothing can be looked at without waiting here: ", err)
	}
	place.Close()
}

// The ordinary program is looked at without a goroutine, its dynamic linker as well.
func TestOrdinaryProgramWithoutWaiting(t *testing.T) {
	path, err := filepath.EvalSymlinks(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	skipUncached(t, path)
	l := known("", path)
	l.look() // the first to follow a link has its access time written
	require.Eventually(t, l.cached, time.Minute, time.Millisecond)
	assert.Zero(t, testing.AllocsPerRun(100, func() { l.cached() }))
}

func TestScriptInterpreter(t *testing.T) {
	for line, want := range map[string]string{
		"": "", "#": "", "# !/bin/sh": "", "#!": "", "#!\n/bin/sh": "", "#! \t\n": "",
		"#!/bin/sh": "/bin/sh", "#!/bin/sh\n": "/bin/sh", "#! \t/bin/sh -e x\n": "/bin/sh", "#!/bin/sh\t-e": "/bin/sh",
		"#!/bin/bash\r\nexit\r\n": "/bin/bash\r", "#!/bin/a\vb\n": "/bin/a\vb", "#!/bin/a\x00b\n": "/bin/a",
	} {
		assert.Equal(t, want, scriptInterpreter([]byte(line)), "%q", line)
	}
}

func TestMissingInterpreter(t *testing.T) {
	dir := t.TempDir()
	inner := script(t, dir+"/inner", "#!/bin/bash\r\n")
	for path, want := range map[string]string{
		script(t, dir+"/no", "#!"+dir+"/nothing -e\n"):                                           dir + "/nothing",
		script(t, dir+"/outer", "#!"+inner+"\n"):                                                 "/bin/bash\r",
		script(t, dir+"/elf", elfProgram(elf64, binary.LittleEndian, 100, "/lib/ld-missing.so")): "/lib/ld-missing.so",
		script(t, dir+"/sh", "#!/bin/sh\n"):                                                      "",
		dir + "/missing":                                                                         "",
	} {
		for range 2 { // read, and known
			assert.Equal(t, want, known("", path).missing, path)
		}
	}
}

// Another user's command is not looked into: it may not be able to read what we can.
func TestNoInterpreterForAnotherUser(t *testing.T) {
	l := Look{path: script(t, t.TempDir()+"/script", "#!/nonexistent\n"), user: true}
	l.look()
	assert.Empty(t, l.missing)
	l.user = false
	l.look()
	assert.NotEmpty(t, l.missing)
}

// What is no regular file is not opened: a FIFO would have a reader for a moment.
func TestNothingElseIsOpened(t *testing.T) {
	dir := t.TempDir()
	fifo := dir + "/fifo"
	require.NoError(t, syscall.Mkfifo(fifo, 0o777))
	watch, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	require.NoError(t, err)
	defer syscall.Close(watch)
	_, err = syscall.InotifyAddWatch(watch, dir, syscall.IN_OPEN)
	require.NoError(t, err)
	known("", script(t, t.TempDir()+"/script", "#!"+fifo+"\n"))
	known("", fifo)
	_, err = syscall.Read(watch, make([]byte, 4096))
	assert.ErrorIs(t, err, syscall.EAGAIN, "somebody opened something")
	known("", script(t, dir+"/script", "text"))
	_, err = syscall.Read(watch, make([]byte, 4096))
	assert.NoError(t, err, "this would have been seen")
}

// A look for a thread that has another working directory is not made by one that has not.
func TestThreadOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(dir+"/sub", 0o700))
	testproc.OwnThread(func() {
		if !assert.NoError(t, syscall.Unshare(syscall.CLONE_FS)) || !assert.NoError(t, syscall.Chdir(dir)) {
			return
		}
		l := begin(t, "sub", "/nonexistent")
		l.wait(t)
		assert.False(t, l.BadDir())
		assert.True(t, sys.SeesAlike(sys.ThreadID()))
	})
	assert.ErrorIs(t, look(t, "sub", "/bin/true"), syscall.ENOENT)
	assert.NoError(t, look(t, dir+"/sub", "/bin/true"))
}

func BenchmarkCached(b *testing.B) {
	l := Look{path: "/bin/true"}
	l.look()
	if !l.cached() {
		b.Skip("nothing can be looked at without waiting here")
	}
	for b.Loop() {
		l.cached() // now and then a rename somewhere has it give up
	}
}

// A file system that does not answer: the look is not over, and says nothing, until it is released.
func TestHungMount(t *testing.T) {
	at := t.TempDir()
	for name, paths := range map[string]func(mount string) (dir, path string){
		"dir":               func(m string) (string, string) { return m + "/dir", "/bin/true" },
		"program":           func(m string) (string, string) { return "", m + "/program" },
		"program below dir": func(m string) (string, string) { return filepath.Dir(m), filepath.Base(m) + "/program" },
		"interpreter":       func(m string) (string, string) { return "", script(t, at+"/one", "#!"+m+"/sh -e\n") },
		"interpreter below dir": func(m string) (string, string) {
			return filepath.Dir(m), script(t, at+"/relative", "#! "+filepath.Base(m)+"/sh\n")
		},
		"interpreter's interpreter": func(m string) (string, string) {
			script(t, at+"/inner", "#!"+m+"/sh\n")
			return "", script(t, at+"/outer", "#!"+at+"/inner\n")
		},
		"dynamic linker": func(m string) (string, string) {
			return "", script(t, at+"/elf", elfProgram(elf64, binary.LittleEndian, 100, m+"/ld.so"))
		},
		"dynamic linker beyond the page": func(m string) (string, string) {
			return "", script(t, at+"/elf", elfProgram(elf64, binary.LittleEndian, 100_000, m+"/ld.so"))
		},
		"dynamic linker below dir": func(m string) (string, string) {
			return filepath.Dir(m), script(t, at+"/elf",
				elfProgram(elf32, binary.LittleEndian, 100, filepath.Base(m)+"/ld.so"))
		},
		"interpreter's dynamic linker": func(m string) (string, string) {
			script(t, at+"/elf", elfProgram(elf64, binary.LittleEndian, 100, m+"/ld.so"))
			return "", script(t, at+"/script", "#!"+at+"/elf\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			mount := testproc.HungMount(t)
			dir, path := paths(mount)
			l := begin(t, dir, path)
			// Looks that do not touch the mount begin and end; this one does not.
			for range 3 {
				require.NoError(t, look(t, at, "/bin/true"))
				require.False(t, l.Done())
			}
			require.Empty(t, l.told)
			syscall.Unmount(mount, syscall.MNT_FORCE) // EBUSY, and aborts the file system all the same
			l.wait(t)
			if dir == mount+"/dir" {
				assert.True(t, l.BadDir())
			} else {
				assert.False(t, l.BadDir(), "whether it can be executed is left to execve")
			}
		})
	}
}
