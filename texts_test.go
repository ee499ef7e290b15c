package safeexec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec/internal/diagnose"
	"github.com/seed841d8200/safeexec/internal/engine"
)

// process returns what a report says of a process. The PIDs below are higher than any that there is.
func process(pid, ppid int, name, state string, threads ...ReportThread) ReportProcess {
	p := ReportProcess{Role: RoleMember, PPID: ppid, State: state, ThreadCount: len(threads), Threads: threads, Cores: -1}
	p.PID, p.Name = pid, name
	return p
}

// What a report says of each state, of threads, and of what it could not have.
func TestReportText(t *testing.T) {
	root := process(9000010, 1, "make", "S", ReportThread{Text: "waits for a child"}, ReportThread{State: "R"},
		ReportThread{Text: "waits for a child"})
	root.Role, root.PipeFDs = RoleRoot, []int{1}
	root.Command = []string{"make", "", "a b", "-j", "x\x1b"}
	root.Cores = 0.3
	busy := process(9000011, 9000010, "cc1", "R", ReportThread{State: "R"})
	busy.Cores = 0.5
	idle := process(9000012, 9000011, "as", "R", ReportThread{State: "R"})
	idle.Cores = 0
	unknown := process(9000013, 9000012, "d", "D", ReportThread{State: "D", Wchan: "rpc_wait"})
	unknown.Unreadable = true
	traced := process(9000016, 9000010, "traced", "t")
	traced.Tracer = 9000099
	holder := process(9000030, 1, "holder", "S", ReportThread{State: "S"})
	holder.Role, holder.PipeFDs = RoleHolder, []int{1, 2}
	outsider := process(9000031, 9000031, "self", "S", ReportThread{Text: "sleeps"}) // its own parent, as the kernel never says
	outsider.Role = RoleOutsider
	zombie := process(9000014, 9000010, "zombie", "Z")
	zombie.ThreadCount = 1
	r := Report{Verdict: "the verdict", Unreadable: 1, Omitted: 2, Unseen: 3, Partial: true, Processes: []ReportProcess{
		root, busy, idle, unknown,
		zombie, process(9000015, 9000010, "stopped", "T"), traced, process(9000017, 9000010, "gone", ""),
		process(9000018, 9000010, "blind", "S"), process(9000019, 9000010, "first", "Z", ReportThread{Text: "exited"}, ReportThread{Text: "writes"}),
		process(os.Getpid(), 9000010, "we", "S"),
		holder, outsider,
		process(9000040, 9000041, "young", "S", ReportThread{Text: "sleeps"}), process(9000041, 9000040, "circle", "S", ReportThread{Text: "sleeps"}),
	}}
	var got []string
	for line := range strings.Lines(r.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	assert.Equal(t, []string{
		"the verdict",
		"9000010 make root cpu 0ms waits for a child",
		`command: make "" "a b" -j "x\x1b"`,
		"2 of 3 threads: waits for a child",
		"1 of 3 threads: running",
		"9000011 cc1 member cpu 0ms running, 50 % of a core",
		"9000012 as member cpu 0ms running, 0 % of a core",
		"9000013 d member cpu 0ms in rpc_wait (may not be looked at)",
		"9000014 zombie member cpu 0ms zombie, not reaped by 9000010",
		"9000015 stopped member cpu 0ms stopped",
		"9000016 traced member cpu 0ms stopped by its tracer 9000099",
		"9000017 gone member cpu 0ms ended",
		"9000018 blind member cpu 0ms could not be looked at",
		"9000019 first member cpu 0ms exited",
		"1 of 2 threads: exited",
		"1 of 2 threads: writes",
		fmt.Sprintf("%d we member cpu 0ms this process", os.Getpid()),
		"9000030 holder holder cpu 0ms state S",
		"holds the output pipe: fd 1, 2",
		"9000031 self outsider cpu 0ms sleeps",
		"9000040 young member cpu 0ms sleeps",
		"9000041 circle member cpu 0ms sleeps",
		"1 processes may not be looked at",
		"2 processes of the tree were left out for want of time",
		"3 processes may have descriptors that may not be seen",
		"there was no time to look at all descriptors of the machine",
	}, got)
	for _, line := range []string{"\n9000010 make", "\n  9000011 cc1", "\n    9000012 as", "\n      9000013 d", "\n  9000014 zombie", "\n9000030 holder", "\n  9000041 circle", "\n" + strings.Repeat(" ", len("      9000013 d")+4) + "command"} {
		assert.Contains(t, r.String(), line, "below its parent")
	}
	assert.Equal(t, "\n", Report{}.String())
}

func TestReportTextOfALongCommand(t *testing.T) {
	assert.Equal(t, strings.Repeat("x", maxShownCommand), shown([]string{strings.Repeat("x", maxShownCommand)}))
	assert.Equal(t, strings.Repeat("x", maxShownCommand)+"…", shown([]string{strings.Repeat("x", maxShownCommand+1)}))
	assert.Equal(t, "a b", shown([]string{"a", "b"}))
}

func TestPipeUseText(t *testing.T) {
	u := PipeUse{Inode: 7, Filled: -1, Size: -1}
	assert.Equal(t, "pipe 7\nno reader\nno writer\n", u.String())
	h := Holder{FDs: []int{3, 4}}
	h.PID, h.Name = 5, "cat"
	u = PipeUse{Inode: 7, Readers: []Holder{h}, Filled: 0, Size: 10, Unseen: 2}
	assert.Equal(t, "pipe 7, 0 of 10 bytes\nreader 5 cat, fd 3, 4\nno writer\n"+
		"2 processes may have descriptors that may not be seen\n", u.String())
	u = PipeUse{Filled: 0, Size: 0}
	assert.NotContains(t, u.String(), "bytes")
}

func TestNamesInErrors(t *testing.T) {
	names := func(n int) string {
		return nameAll(n, func(i int) ProcessInfo { return ProcessInfo{PID: i + 1, Name: string(rune('a' + i))} })
	}
	assert.Equal(t, "a (pid 1), b (pid 2), c (pid 3)", names(3))
	assert.Equal(t, "a (pid 1), b (pid 2), c (pid 3), 1 more", names(4))
	assert.Equal(t, "a (pid 1), b (pid 2), c (pid 3), 4 more", names(7))
	for name, want := range map[string]string{
		"": "pid 7", "sh": "sh (pid 7)", "a b": `"a b" (pid 7)`, "(sh": `"(sh" (pid 7)`, "\n": `"\n" (pid 7)`,
	} {
		assert.Equal(t, want, nameOf(ProcessInfo{PID: 7, Name: name}))
	}
	assert.Equal(t, `""`, plain(""))

	one := []ProcessInfo{{PID: 7, Name: "sh"}}
	assert.EqualError(t, survivorsError(one, 0), "safeexec: 1 process survived SIGKILL: sh (pid 7)")
	assert.EqualError(t, survivorsError(append(one, ProcessInfo{PID: 8}), time.Second),
		"safeexec: 2 processes survived SIGKILL for 1s: sh (pid 7), pid 8")
}

func TestSpanInErrors(t *testing.T) {
	for d, want := range map[time.Duration]string{
		999*time.Millisecond + 400*time.Microsecond: "999ms",
		1234 * time.Microsecond:                     "1ms",
		time.Second:                                 "1s",
		time.Second + 4*time.Millisecond:            "1s",
		time.Second + 6*time.Millisecond:            "1.01s",
	} {
		assert.Equal(t, want, span(d))
	}
}

// What os/exec says of a long standard error.
func TestAbridgedStderr(t *testing.T) {
	all := bytes.Repeat([]byte("0123456789abcdef"), stderrPart/16*2)
	assert.Equal(t, all, abridged(&Stream{Total: int64(len(all)), data: all, head: len(all)}))
	more := append(bytes.Clone(all), '!')
	assert.Equal(t, string(more[:stderrPart])+"\n... omitting 1 bytes ...\n"+string(more[len(more)-stderrPart:]),
		string(abridged(&Stream{Total: int64(len(more)), data: more, head: len(more)})), "nothing was dropped")
	assert.Equal(t, "abc\n... omitting 100 bytes ...\nxyz",
		string(abridged(&Stream{Total: 106, Dropped: 100, data: []byte("abcxyz"), head: 3})))
}

func TestUnknownCauseAndSignaler(t *testing.T) {
	assert.Equal(t, "none", Cause(0).String())
	assert.Equal(t, "writer failed", CauseWriterFailed.String())
	assert.Equal(t, "Cause(-1)", Cause(-1).String())
	assert.Equal(t, fmt.Sprintf("Cause(%d)", len(causes)), Cause(len(causes)).String())
	assert.Equal(t, "none", SignalerNone.String())
	assert.Equal(t, "other", SignalerOther.String())
	assert.Equal(t, "Signaler(-1)", Signaler(-1).String())
	assert.Equal(t, fmt.Sprintf("Signaler(%d)", len(signalers)), Signaler(len(signalers)).String())
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a b": "a b", "\na": `\na`, "a\x1b[1m": `a\x1b[1m`, "": "", "\t": `\t`,
	} {
		assert.Equal(t, want, oneLine(text))
	}
	err := &Error{Op: "run", Program: "a b", PID: 7, errs: []error{ErrTimeout, ErrSurvivors}}
	assert.Equal(t, `run "a b" (pid 7): `+strings.TrimPrefix(ErrTimeout.Error(), "safeexec: ")+"; "+
		strings.TrimPrefix(ErrSurvivors.Error(), "safeexec: "), strings.TrimPrefix(err.Error(), "safeexec: "))
}

func TestRetryableIsOfStarts(t *testing.T) {
	assert.True(t, Retryable(&Error{Op: "start", errs: []error{syscall.EAGAIN}}))
	assert.True(t, Retryable(fmt.Errorf("wrapped: %w", &Error{Op: "start", errs: []error{ErrStartStalled}})))
	assert.False(t, Retryable(&Error{Op: "start", errs: []error{syscall.EAGAIN, ErrCanceled}}))
	assert.False(t, Retryable(&Error{Op: "start", errs: []error{syscall.ENOENT}}))
	assert.False(t, Retryable(&Error{Op: "run", errs: []error{syscall.EAGAIN}}), "it may have done something")
}

// refused returns a run that was not started.
func refused(t *testing.T) *run {
	t.Helper()
	r, err := begin(t.Context(), &exec.Cmd{Path: filepath.Join(t.TempDir(), "missing")}, []Option{WithTimeout(time.Minute)})
	assert.ErrorIs(t, err, ErrNotFound)
	return r
}

func TestHeldPipesInErrors(t *testing.T) {
	r := refused(t)
	r.life.Facts.Held = [3]bool{1: true}
	assert.EqualError(t, r.heldError(), "safeexec: standard output is held by a process that was not found")
	r.life.Facts.Held[2] = true
	assert.EqualError(t, r.heldError(),
		"safeexec: standard output and standard error are held by a process that was not found")
	r.result.HoldersPartial = true
	assert.ErrorContains(t, r.heldError(), "not found in "+span(engine.HolderBound))
	r.result.Holders = []Holder{{ProcessInfo: ProcessInfo{PID: 7, Name: "sh"}}}
	assert.EqualError(t, r.heldError(), "safeexec: standard output and standard error are held by sh (pid 7)")
	assert.ErrorIs(t, r.heldError(), ErrPipeHeld)
}

func TestLimitsInErrors(t *testing.T) {
	r := refused(t)
	assert.Equal(t, ErrOOMKilled, r.oomError())
	r.cfg.Containment = new(engine.Containing)
	r.cfg.Containment.Limits.Memory = 100
	assert.Equal(t, ErrOOMKilled, r.oomError(), "without a limit of the run's own")
	r.cfg.memorySet = true
	assert.EqualError(t, r.oomError(), "safeexec: killed for want of memory (limit 100 bytes)")

	r.cfg.OutputLimit = 10
	out := &r.life.Facts.Output
	out[0].Kind, out[0].Total = engine.StreamInput, 100
	out[1].Kind, out[1].Total = engine.StreamCaptured, 10
	out[2].Kind, out[2].Total = engine.StreamCaptured, 11
	assert.EqualError(t, r.outputLimitError(), "safeexec: standard error exceeded its limit: 11 bytes (limit 10)")
	out[2].Total = 10
	assert.Equal(t, ErrOutputLimit, r.outputLimitError())

	out[1].Err, r.cfg.Drain = syscall.EIO, 3*time.Second
	r.result.Abandoned = []Abandoned{AbandonedStdout, AbandonedStderr, AbandonedStdin}
	var texts []string
	for _, err := range r.streamErrors() {
		texts = append(texts, err.Error())
	}
	assert.Equal(t, []string{
		"safeexec: writer of standard output does not return (waited 3s)",
		"safeexec: writer of standard error does not return (waited 3s)",
		"safeexec: reader of standard input does not return (waited 3s)",
		"standard output: " + syscall.EIO.Error(),
	}, texts)
}

// A report was taken when the look began. If nothing was found out in time, that is when the time was over.
func TestWhenAReportWasTaken(t *testing.T) {
	r := refused(t)
	f := &r.life.Facts
	f.Reported, f.Subject, f.Taken = true, 7, time.Unix(2, 0)
	r.fillReport()
	assert.Equal(t, f.Taken, r.result.Report.Taken)
	f.Snapshot = &diagnose.Snapshot{Taken: time.Unix(1, 0)}
	r.fillReport()
	assert.Equal(t, f.Snapshot.Taken, r.result.Report.Taken)
}

func TestDescribe(t *testing.T) {
	failed := errors.New("some\nerror")
	ended := func(change func(r *Result)) Result {
		r := Result{Program: "make", PID: 7, Cause: CauseExited}
		r.Times.Total = time.Second
		change(&r)
		return r
	}
	for _, test := range []struct {
		want   string
		err    error
		change func(r *Result)
	}{
		{"make succeeded in 1s.", nil, func(*Result) {}},
		{"the command succeeded in 1s.", nil, func(r *Result) { r.Program = "" }},
		{"make all succeeded in 1s.", nil, func(r *Result) { r.Command = []string{"make", "all"} }},
		{"make was not started: some\\nerror.", failed, func(r *Result) { r.PID = 0 }},
		{"make was not started: some\\nerror.", failed, func(r *Result) { r.PID, r.Cause = 0, CauseStartFailed }},
		{"make was killed by a signal (terminated) from elsewhere after 1s.", failed,
			func(r *Result) { r.Signal, r.ExitCode = syscall.SIGTERM, -1 }},
		{"make failed with exit status 2 after 1s.", failed, func(r *Result) { r.ExitCode = 2 }},
		{"make ended after 1s.", failed, func(r *Result) { r.ExitCode = -1 }},
		{"make was ended after 1s (timeout): some\\nerror.", failed,
			func(r *Result) { r.Cause, r.Signal = CauseTimeout, syscall.SIGKILL }},
		{"make was ended after 1s (timeout).", nil, func(r *Result) { r.Cause = CauseTimeout }},
		{"make was ended after 1s (canceled).", nil, func(r *Result) { r.Cause, r.ExitCode = CauseCanceled, 3 }},
		{"make was ended after 1s (timeout).", nil,
			func(r *Result) { r.Cause, r.Killed = CauseTimeout, make([]ProcessInfo, 2) }},
		{"make succeeded in 1s; 2 of its background processes were killed.", nil,
			func(r *Result) { r.Killed = make([]ProcessInfo, 2) }},
		{"make succeeded in 1s; 1 of its processes were left running.", nil,
			func(r *Result) { r.Left = make([]ProcessInfo, 1) }},
		{"make succeeded in 1s; 3 of its processes could not be killed.", nil,
			func(r *Result) { r.Survivors = make([]ProcessInfo, 3) }},
		{"make succeeded in 1s; 7 bytes of its output were dropped.", nil,
			func(r *Result) { r.Stdout.Dropped, r.Stderr.Dropped = 3, 4 }},
	} {
		assert.Equal(t, test.want, ended(test.change).Describe(test.err))
	}
}

func TestUnknownAbandoned(t *testing.T) {
	assert.Equal(t, "Abandoned(-1)", Abandoned(-1).String())
	assert.Equal(t, "Abandoned(0)", Abandoned(0).String())
	assert.Equal(t, "start", Abandoned(1).String())
	assert.Equal(t, "terminal", AbandonedTerminal.String())
	assert.Equal(t, fmt.Sprintf("Abandoned(%d)", len(abandoned)), Abandoned(len(abandoned)).String())
}

func TestCodes(t *testing.T) {
	for _, test := range []struct {
		r              Result
		shell, timeout int
	}{
		{Result{Cause: CauseExited}, 0, 0},
		{Result{Cause: CauseExited, ExitCode: 3}, 3, 3},
		{Result{Cause: CauseExited, ExitCode: -1}, -1, 125},
		{Result{Cause: CauseExited, ExitCode: -1, Signal: syscall.SIGTERM}, 143, 143},
		{Result{Cause: CauseTimeout, ExitCode: -1, Signal: syscall.SIGTERM}, 143, 124},
		{Result{Cause: CauseStartFailed, ExitCode: -1, refusal: shellNotFound}, 127, 127},
	} {
		assert.Equal(t, test.shell, test.r.ShellCode())
		assert.Equal(t, test.timeout, test.r.TimeoutCode())
	}
}

func TestWholeRunesOfAStream(t *testing.T) {
	for _, text := range []string{"é", "€", "𝄞"} {
		for cut := 1; cut < len(text); cut++ {
			head, tail := wholeRunes([]byte("a"+text[:cut]), []byte(text[cut:]+"b"))
			assert.Equal(t, "a", string(head), "%q %d", text, cut)
			assert.Equal(t, "b", string(tail), "%q %d", text, cut)
		}
		head, _ := wholeRunes([]byte("a"+text), nil)
		assert.Equal(t, "a"+text, string(head))
		head, _ = wholeRunes([]byte(text[:1]), nil)
		assert.Empty(t, head)
	}
	head, tail := wholeRunes([]byte("a\xe2\x82\x82\x82"), []byte("\x82\x82\x82\x82\x82"))
	assert.Equal(t, "a\xe2\x82\x82\x82", string(head), "what is no UTF-8 is left")
	assert.Equal(t, "\x82\x82\x82\x82\x82", string(tail))
}
