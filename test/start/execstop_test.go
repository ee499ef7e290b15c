//go:build linux

package start_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["proof-parent"] = proofParent
}

// proofParent proves a command: program and arguments, after the steps.
//
//	leak           opens what C code opens
//	refuse ERRNO   has the kernel refuse ptrace
//	blind ERRNO    has it refuse to say whether the command has stopped
//	soon           sets a timeout that is reached
//	unprivileged   goes on as an ordinary user
//	off, mark      sets the policy
func proofParent(args []string) int {
	opts := []safeexec.Option{safeexec.WithTimeout(testrun.Bound), safeexec.WithFDProof()}
	for {
		step := args[0]
		args = args[1:]
		switch step {
		case "leak":
			if err := leakLikeC(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			continue
		case "refuse":
			n, _ := strconv.Atoi(args[0])
			args = args[1:]
			if err := testproc.RefuseSyscall(unix.SYS_PTRACE, syscall.Errno(n)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			continue
		case "blind":
			n, _ := strconv.Atoi(args[0])
			args = args[1:]
			if err := testproc.RefuseSyscall(unix.SYS_PTRACE, syscall.Errno(n), unix.PTRACE_GETSIGINFO); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			continue
		case "soon":
			opts = append(opts, safeexec.WithTimeout(50*time.Millisecond))
			continue
		case "unprivileged":
			if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			continue
		case "off":
			opts = append(opts, safeexec.WithFDPolicy(safeexec.FDOff))
			continue
		case "mark":
			continue
		}
		res, err := safeexec.Run(context.Background(), exec.Command(step, args...), opts...)
		a := answer(res, err)
		kinds := map[string]error{
			"leaked": safeexec.ErrLeakedFDs, "refused": safeexec.ErrProofRefused, "unknown": safeexec.ErrFDsUnknown,
			"privilege": safeexec.ErrProofPrivilege, "permission": fs.ErrPermission,
			"not executable": safeexec.ErrNotExecutable, "timeout": safeexec.ErrTimeout,
		}
		out := proofAnswer{fdsAnswer: a, Proved: res.FDsProved, PID: res.PID}
		// Nothing may be left, not even a zombie.
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); !errors.Is(err, unix.ECHILD) {
			out.Kinds = append(out.Kinds, "child left")
		}
		for name, kind := range kinds {
			if errors.Is(err, kind) {
				out.Kinds = append(out.Kinds, name)
			}
		}
		json.NewEncoder(os.Stdout).Encode(out)
		return 0
	}
}

type proofAnswer struct {
	fdsAnswer
	Proved bool
	PID    int
	Kinds  []string
}

func proof(t *testing.T, args ...string) proofAnswer {
	t.Helper()
	cmd := testproc.RoleCommand(t, "proof-parent", args...)
	cmd.ExtraFiles = bornAt(t, bornFDs...)
	text, err := cmd.Output()
	require.NoError(t, err, "%s", text)
	var a proofAnswer
	require.NoError(t, json.Unmarshal(text, &a))
	return a
}

// staticProgram builds a program without dynamic loader that lists its descriptors: this test
// binary does for the dynamic one where it is linked with C, a shell in any case.
func staticProgram(t *testing.T) string {
	t.Helper()
	gcc := testproc.HasProgram(t, "gcc")
	dir := t.TempDir()
	source := filepath.Join(dir, "list.c")
	require.NoError(t, os.WriteFile(source, []byte(`
#include <fcntl.h>
#include <stdio.h>
int main(void) {
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) != -1) printf("%d x\n", fd);
	return 0;
}
`), 0o600))
	program := filepath.Join(dir, "list")
	out, err := exec.CommandContext(testproc.Deadline(t), gcc, "-static", "-O", "-o", program, source).CombinedOutput()
	if err != nil {
		t.Skipf("no static program can be built: %v, %s", err, out)
	}
	return program
}

const listInShell = `for fd in /proc/$$/fd/*; do [ -e "$fd" ] || [ -L "$fd" ] || continue; n=${fd##*/}; case $n in 10|255) ;; *) echo "$n x";; esac; done`

// TestProof proves programs of each kind, with and without something to find.
func TestProof(t *testing.T) {
	t.Parallel()
	sh := testproc.HasProgram(t, "sh")
	marker := func(t *testing.T) string { return filepath.Join(t.TempDir(), "it ran") }
	for name, program := range map[string]func(t *testing.T, marker string) []string{
		"dynamic": func(_ *testing.T, marker string) []string {
			return []string{sh, "-c", ": >'" + marker + "'; " + listInShell}
		},
		"script": func(t *testing.T, marker string) []string {
			return []string{testproc.WriteProgram(t, 0o755, "#!"+sh+"\n: >'"+marker+"'\n"+listInShell+"\n")}
		},
		"static": func(t *testing.T, _ string) []string { return []string{staticProgram(t)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ran := marker(t)
			args := program(t, ran)
			a := proof(t, append([]string{"leak", "mark"}, args...)...)
			assert.Equal(t, "<nil>", a.Err)
			assert.True(t, a.Proved)
			assert.Subset(t, []int{0, 1, 2, 3}, a.numbers(t), "3 is a shell's own, on its script")
			require.NoError(t, os.RemoveAll(ran))

			a = proof(t, append([]string{"leak", "off"}, args...)...)
			assert.Equal(t, []string{"leaked"}, a.Kinds)
			assert.Equal(t, bornFDs, only(numbers(a.Refused), bornFDs...))
			text := a.Refused.String()
			assert.Contains(t, text, "/dev/full")
			assert.Contains(t, text, "socket:[")
			assert.Contains(t, a.Err, "born-200")
			assert.Equal(t, numbers(a.Refused), numbers(a.Leaked))
			assert.False(t, a.Proved)
			assert.Zero(t, a.PID)
			assert.Equal(t, safeexec.CauseStartFailed, a.Cause)
			assert.Equal(t, []string{""}, a.Child)
			_, err := os.Stat(ran)
			assert.ErrorIs(t, err, fs.ErrNotExist, "killed before its first instruction")
		})
	}
}

// TestProofOfDeclared has everything that may be declared pass.
func TestProofOfDeclared(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	passed, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD_CLOEXEC, 50)
	require.NoError(t, err)
	defer unix.Close(passed)
	cmd := testproc.Command("fds")
	cmd.ExtraFiles = []*os.File{nil, null}
	res, err := testrun.Run(t, cmd, safeexec.WithFDProof(), safeexec.WithFDs(passed))
	require.NoError(t, err)
	assert.True(t, res.FDsProved)
	a := answer(res, err)
	assert.Equal(t, []int{0, 1, 2, 4, passed}, a.numbers(t))
}

// TestProofRefused has ptrace refused for real.
func TestProofRefused(t *testing.T) {
	t.Parallel()
	for _, errno := range []syscall.Errno{unix.EPERM, unix.ENOSYS, unix.EACCES} {
		a := proof(t, "refuse", strconv.Itoa(int(errno)), "true")
		assert.Contains(t, a.Kinds, "refused")
		assert.NotContains(t, a.Kinds, "not executable")
		assert.False(t, a.Proved)
		assert.Equal(t, safeexec.CauseStartFailed, a.Cause)
	}
}

// TestProofThatNeverStops has commands that are never seen to stop, as one whose program's pages
// come from a file system that does not answer.
func TestProofThatNeverStops(t *testing.T) {
	t.Parallel()
	ran := filepath.Join(t.TempDir(), "it ran")
	a := proof(t, "blind", strconv.Itoa(int(unix.ESRCH)), "soon", "touch", ran)
	assert.Equal(t, []string{"timeout"}, a.Kinds)
	assert.Equal(t, safeexec.CauseTimeout, a.Cause)
	a = proof(t, "blind", strconv.Itoa(int(unix.EIO)), "touch", ran)
	assert.Empty(t, a.Kinds)
	assert.Contains(t, a.Err, "ptrace")
	assert.Equal(t, safeexec.CauseStartFailed, a.Cause)
	assert.NoFileExists(t, ran)
}

// TestProofOfWhatCanNotStart keeps the errors of os/exec.
func TestProofOfWhatCanNotStart(t *testing.T) {
	t.Parallel()
	_, err := testrun.Run(t, exec.Command("/nonexistent/program"), safeexec.WithFDProof())
	require.ErrorIs(t, err, safeexec.ErrNotFound)
	_, err = testrun.Run(t, exec.Command(testproc.WriteProgram(t, 0o644, "")), safeexec.WithFDProof())
	require.ErrorIs(t, err, safeexec.ErrNotExecutable)
	require.NotErrorIs(t, err, safeexec.ErrProofRefused)
	_, err = testrun.Run(t, exec.Command(testproc.WriteProgram(t, 0o755, "no program")), safeexec.WithFDProof())
	require.ErrorIs(t, err, syscall.ENOEXEC)
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	_, err = testrun.Run(t, cmd, safeexec.WithFDProof())
	var config *safeexec.ConfigError
	require.ErrorAs(t, err, &config)
}

// TestProofOfPrivileged starts programs that are more than we are, as an ordinary user and as root.
func TestProofOfPrivileged(t *testing.T) {
	t.Parallel()
	if testproc.Unprivileged() {
		t.Skip("needs root, to make a set-user-ID program")
	}
	text, err := os.ReadFile(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	dir, err := os.MkdirTemp("/tmp", "privileged") //nolint:usetesting // the other user must reach it
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	at := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		testproc.WriteExecutable(t, path, text, 0o755)
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	plain := at("plain", 0o755)
	unreadable := at("unreadable", 0o711)
	setuid := at("setuid", 0o755|os.ModeSetuid)
	setgid := at("setgid", 0o755|os.ModeSetgid)
	script := filepath.Join(dir, "script")
	testproc.WriteExecutable(t, script, []byte("#!"+setuid+"\n"), 0o755)
	privileged := []string{setuid, setgid, script}
	withCapability := at("capability", 0o755)
	if setcap, err := exec.LookPath("setcap"); err == nil &&
		exec.Command(setcap, "cap_net_raw+ep", withCapability).Run() == nil {
		privileged = append(privileged, withCapability)
	} else if unix.Setxattr(withCapability, "security.capability", // VFS_CAP_REVISION_2, CAP_NET_RAW, effective
		[]byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0) == nil {
		privileged = append(privileged, withCapability)
	} else {
		t.Log("no file capabilities here")
	}
	for _, program := range privileged {
		a := proof(t, "unprivileged", program)
		assert.Equal(t, []string{"privilege"}, a.Kinds, program)
		assert.False(t, a.Proved)
		a = proof(t, "mark", program)
		assert.Equal(t, "<nil>", a.Err, "root keeps the privilege: %s", program)
		assert.True(t, a.Proved)
	}
	a := proof(t, "unprivileged", plain)
	assert.Equal(t, "<nil>", a.Err)
	assert.True(t, a.Proved)
	a = proof(t, "unprivileged", unreadable)
	assert.Contains(t, a.Kinds, "unknown", "a list that cannot be read fails closed: %s", a.Err)
	assert.False(t, a.Proved)
}

// TestProofOfBinfmtMisc has the kernel hand the program to its interpreter as an undeclared descriptor,
// which is right.
func TestProofOfBinfmtMisc(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root, to register a binary format")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "binfmt_misc", 0, ""); err != nil {
		t.Skipf("no binfmt_misc: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	name := fmt.Sprint("safeexec-test-", os.Getpid())
	magic := fmt.Sprintf("SAFEEXEC%d", os.Getpid())
	interpreter := testproc.WriteProgram(t, 0o755, "#!/bin/sh\nexit 1\n")
	text, err := os.ReadFile(testproc.HasProgram(t, "sh"))
	require.NoError(t, err)
	testproc.WriteExecutable(t, interpreter, text, 0o755)
	for _, flags := range []string{"", "O"} {
		err = os.WriteFile(filepath.Join(dir, "register"), []byte(":"+name+":M::"+magic+"::"+interpreter+":"+flags), 0)
		if err != nil {
			t.Skipf("no format can be registered: %v", err)
		}
		program := testproc.WriteProgram(t, 0o755, magic+" 2>/dev/null\nexec 2>/dev/null\necho interpreted\n")
		res, err := testrun.Run(t, exec.Command(program), safeexec.WithFDProof())
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("-1"), 0))
		require.NoError(t, err, "flags %q", flags)
		assert.True(t, res.FDsProved)
		assert.Equal(t, "interpreted", strings.TrimSpace(res.Stdout.String()))
	}
}

// BenchmarkProof is what the proof costs.
func BenchmarkProof(b *testing.B) {
	for name, opts := range map[string][]safeexec.Option{
		"off": {safeexec.WithTimeout(testrun.Bound)}, "on": {safeexec.WithTimeout(testrun.Bound), safeexec.WithFDProof()},
	} {
		b.Run("proof="+name, func(b *testing.B) {
			for b.Loop() {
				if _, err := safeexec.Run(context.Background(), exec.Command("/bin/true"), opts...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
