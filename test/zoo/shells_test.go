//go:build linux

package zoo_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// scripts leave processes behind the way people do. Each prints "ready" once they stand, as far as it
// can tell; what follows it in the table is what then ends, or keeps, the shell.
var scripts = []struct{ name, shell, script string }{
	{"job", "sh", `sleep 600 &`},
	{"job in a subshell", "sh", `(sleep 600 &)`},
	{"nohup", "sh", `nohup sleep 600 >/dev/null 2>&1 &`},
	{"setsid", "sh", `setsid sleep 600 &`},
	{"setsid -f", "sh", `setsid -f sleep 600`},
	{"double setsid", "sh", `setsid -f setsid -f sleep 600`},
	{"without environment", "sh", `env -i setsid -f sh -c 'sleep 600 & exec sleep 600'`},
	{"without environment, descriptors", "sh", `env -i setsid -f sh -c 'exec sleep 600' 0<&- >&- 2>&-`},
	{"ignores TERM", "sh", `trap '' TERM HUP INT; setsid -f sh -c 'while :; do sleep 600; done'`},
	{"starts again", "sh", `setsid -f sh -c 'trap "" TERM; while :; do sleep 600; done'`},
	{"pipeline", "sh", `setsid -f sh -c 'yes | cat | sleep 600'`},
	{"several sessions", "sh", `for i in 1 2 3 4 5; do setsid -f sh -c 'setsid -f sleep 600; sleep 600'; done`},

	{"job control", "bash", `set -m; sleep 600 & sleep 600 | sleep 600 &`},
	{"job control, stopped", "bash", `set -m; sleep 600 & kill -STOP $!`},
	{"disown", "bash", `set -m; sleep 600 & disown -a`},
	{"coproc", "bash", `coproc sleep 600; sleep 600 < <(sleep 600) &`},
	{"interactive", "bash", `bash --norc -i -c 'sleep 600 & sleep 600 & disown' 2>/dev/null`},
	{"exec -a", "bash", `(exec -a ') R 1 (' setsid sleep 600 &)`},
	{"starts again", "bash", `setsid -f bash -c 'trap "sleep 600 & disown" TERM EXIT; while :; do sleep 600; done'`},

	{"job control", "dash", `set -m 2>/dev/null; sleep 600 & sleep 600 | sleep 600 &`},
	{"without environment", "dash", `env -i setsid -f dash -c 'sleep 600 & exec sleep 600'`},

	{"daemon", "python3", `
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    time.sleep(600)
os.wait()`},
	{"daemon without environment", "python3", `
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    os.execve('/bin/sleep', ['sleep', '600'], {})
os.wait()`},
	{"new session", "python3", `subprocess.Popen(['sleep', '600'], start_new_session=True, env={})`},
	{"new sessions", "python3", `[subprocess.Popen(['sleep', '600'], start_new_session=i % 2 == 0) for i in range(10)]`},
	{"ignores all", "python3", `
[signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 17, 19)]
subprocess.Popen(['sleep', '600'], start_new_session=True, restore_signals=False)`},

	{"daemon", "perl", `use POSIX 'setsid'; if (!fork) { setsid; if (!fork) { sleep 600 } exit } wait;`},
	{"title", "perl", `use POSIX 'setsid'; if (!fork) { setsid; if (!fork) { $0 = 'x' x 200; sleep 600 } exit } wait;`},
	{"without environment", "perl", `use POSIX 'setsid'; if (!fork) { setsid; if (!fork) { %ENV = (); exec 'sleep', '600' } exit } wait;`},
	{"starts again on TERM", "perl", `use POSIX 'setsid';
		if (!fork) { setsid; $SIG{TERM} = sub { exit if fork }; sleep 1 while $n++ < 600; exit }`},
}

// ends is what a script does when it is ready.
var ends = map[string]map[way]string{
	"sh":      {leave: "\necho ready", stay: "\necho ready; exec sleep 600"},
	"python3": {leave: "\nprint('ready', flush=True); os._exit(0)", stay: "\nprint('ready', flush=True); time.sleep(600)"},
	"perl":    {leave: "\n$| = 1; print qq(ready\\n); exit", stay: "\n$| = 1; print qq(ready\\n); sleep 600"},
}

// TestZooShells runs the scripts. Their shells look for the processes after themselves as little as
// anybody does.
func TestZooShells(t *testing.T) {
	skipShort(t)
	onEachRung(t, func(t *testing.T, r rung) {
		for i, s := range scripts {
			for _, w := range r.sharesOf(i) {
				t.Run(s.shell+"/"+s.name+"/"+string(w), func(t *testing.T) {
					t.Parallel()
					runScript(t, r, s.shell, s.script, w)
				})
			}
		}
	})
}

func runScript(t *testing.T, r rung, shell, script string, w way) {
	path := testproc.HasProgram(t, shell)
	args := []string{"-c", script + scriptEnd(shell, w)}
	switch shell {
	case "python3":
		args = []string{"-S", "-c", "import os, signal, subprocess, time\n" + args[1]}
	case "perl":
		args[0] = "-e"
	}
	cmd := exec.Command(path, args...)
	realProgram{name: shell, cmd: cmd, grace: 20 * time.Millisecond}.run(t, r, w)
}

func scriptEnd(shell string, w way) string {
	if e, ok := ends[shell]; ok {
		return e[w]
	}
	return ends["sh"][w]
}

// standing is how long a real program may take until its tree stands. One that cannot start here
// fails its test by this, and not all of them by the deadline.
const standing = time.Minute

// A realProgram is a command that is not ours. It prints "ready" once its tree stands.
type realProgram struct {
	name  string
	cmd   *exec.Cmd
	grace time.Duration
}

func (p realProgram) run(t *testing.T, r rung, w way) {
	before := testproc.NewBystander(t, p.name)
	witness := testproc.NewWitness(t, p.cmd)
	run, out := startPiped(t, p.cmd, r, safeexec.WithGracePeriod(p.grace), safeexec.WithTimeout(standing))
	first := testproc.ReadLine(t, out)
	require.Equal(t, "ready", first)
	during := testproc.NewBystander(t, p.name)
	var end ended
	if w == stay {
		assert.NotEmpty(t, witness.Alive())
		end.res, end.err = run.Stop()
	} else {
		end.res, end.err = run.Wait()
	}
	if alive := witness.Alive(); !r.finds(specimen{}, end.res.Tracks) {
		t.Logf("not promised here, and %d live", len(alive))
	} else {
		assert.Empty(t, alive)
		end.tells(t, w)
	}
	end.spared(t, before)
	end.spared(t, during)
}
