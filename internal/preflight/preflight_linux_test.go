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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	if unknown := sys.Disable(testproc.Disabled()...); unknown != "" {
		fmt.Fprintf(os.Stderr, "%s: there is no %q\n", testproc.DisableVariable, unknown)
		os.Exit(2)
	}
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
	l.Begin(dir, path, func() { l.told <- struct{}{} })
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
		require.True(t, l.Done(), "notify is called when it is over, not before")
	case <-l.ctx.Done():
		t.Fatal("the look does not end")
	}
}

func look(t testing.TB, dir, path string) error {
	t.Helper()
	testproc.NoLeaks(t)
	l := begin(t, dir, path)
	l.wait(t)
	return l.DirErr()
}

// script writes an executable file.
func script(t testing.TB, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
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

// What can be looked at without waiting is, and what can not is left to the goroutine.
func TestLookWithoutWaiting(t *testing.T) {
	dir := t.TempDir()
	file := script(t, dir+"/sh", "#! "+script(t, dir+"/program", "text")+"\n")
	if _, err := sys.PeekCached(file, make([]byte, 1), 0); err != nil {
		t.Skip("nothing can be looked at without waiting here: ", err)
	}
	for _, in := range []string{"", dir} {
		l := Look{dir: in, path: file}
		assert.True(t, l.cached())
	}
	for _, at := range []int{100, 5000} { // in the page, and beyond it
		l := Look{path: script(t, dir+"/elf", elfProgram(elf64, binary.LittleEndian, at, dir+"/program"))}
		assert.True(t, l.cached(), at)
	}
	for _, c := range []struct{ dir, path string }{
		{"", dir + "/missing"},
		{"", "sh"},
		{"", script(t, dir+"/elsewhere", elfProgram(elf64, binary.LittleEndian, 100, "/proc/self/exe"))},
		{"", script(t, dir+"/nowhere", elfProgram(elf64, binary.LittleEndian, 100, dir+"/missing"))},
		{"", script(t, dir+"/short", elfProgram(elf64, binary.LittleEndian, 100, "/x")[:70])},
		{"", script(t, dir+"/away", "#!/proc/self/exe\n")},
		{dir + "/missing", file},
		{"/proc", file},
		{file, file},
		{".", file},
	} {
		l := Look{dir: c.dir, path: c.path}
		assert.False(t, l.cached(), "%v", c)
	}
}

// The ordinary program is looked at without a goroutine, its dynamic linker as well.
func TestOrdinaryProgramWithoutWaiting(t *testing.T) {
	path, err := filepath.EvalSymlinks(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	if _, err := sys.PeekCached(path, make([]byte, 1), 0); err != nil {
		t.Skip("nothing can be looked at without waiting here: ", err)
	}
	l := Look{path: path}
	l.look() // the first to follow a link has its access time written
	assert.True(t, l.cached())
	assert.Zero(t, testing.AllocsPerRun(100, func() { l.cached() }))
}

func BenchmarkCached(b *testing.B) {
	l := Look{path: "/bin/true"}
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
				assert.Error(t, l.DirErr())
			} else {
				assert.NoError(t, l.DirErr(), "whether it can be executed is left to execve")
			}
		})
	}
}
