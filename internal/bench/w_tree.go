package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// byCgroup is what killTree compares with: a cgroup ends its processes with one write.
const byCgroup = "cgroup.kill"

// killTree measures from the decision to send SIGKILL until the tree is proved empty, for trees of
// processes in jobs, sessions and daemons.
func killTree(b *bench) error {
	path, err := program("mixed")
	if err != nil {
		b.note("killtree: %v", err)
		return nil
	}
	for _, n := range b.trees {
		if n < 10 {
			continue
		}
		command := []string{path, strconv.Itoa(n)}
		reaping := func(name string, once func([]string) (sample, error)) entry {
			return entry{name, func() (s sample, err error) {
				// The zombies of each run are reaped before the next: all of them would be all PIDs.
				err = adopting(func() error { s, err = once(command); return err })
				return s, err
			}}
		}
		lanes := race(b.log, []entry{
			reaping(byCgroup, killLeaf), reaping(byCgroup+againSuffix, killLeaf), reaping(subject, killSafeexec),
		}, max(b.few, 3))
		b.report.addRace(byCgroup, "killtree", fmt.Sprintf("mixed=%d", n), lanes, secPerOp)
	}
	return nil
}

func seconds(d time.Duration) sample {
	return sample{values: map[string]float64{secPerOp: d.Seconds()}, each: []float64{d.Seconds()}}
}

func killSafeexec(command []string) (sample, error) {
	out, w, err := os.Pipe()
	if err != nil {
		return sample{}, err
	}
	defer out.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout = w
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(runTimeout), safeexec.WithTermSignal(syscall.SIGKILL))
	w.Close()
	if err != nil {
		return sample{}, err
	}
	_, readErr := bufio.NewReader(out).ReadString('\n')
	res, err := p.Stop() // the report that comes first is no part of Times.Stop
	if !errors.Is(err, safeexec.ErrStopped) || len(res.Survivors) > 0 {
		return sample{}, fmt.Errorf("%w, survivors %v", err, res.Survivors)
	}
	return seconds(res.Times.Stop), readErr
}

func killLeaf(command []string) (sample, error) {
	l, err := newLeaf()
	if err != nil {
		return sample{}, err
	}
	defer l.remove()
	out, w, err := os.Pipe()
	if err != nil {
		return sample{}, err
	}
	defer out.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(l.dir.Fd())}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return sample{}, err
	}
	_, readErr := bufio.NewReader(out).ReadString('\n')
	began := time.Now()
	err = l.kill()
	took := time.Since(began)
	_ = cmd.Wait()
	return seconds(took), errors.Join(readErr, err)
}

// withoutSweep is safeexec that looks for nobody who is left after the exit.
const withoutSweep = "safeexec-no-sweep"

// sweep measures a no-op beside many processes that sleep, with the look for those who are left and
// without it. Each is a process of its own: the look can only be switched off for good.
func sweep(b *bench) error {
	for _, others := range []bool{false, true} {
		name := "others=0"
		if others {
			unload, err := b.loadProcesses()
			if err != nil {
				return err
			}
			defer unload()
			name = fmt.Sprint("others=", b.procs)
		}
		var list []entry
		for _, impl := range []string{withoutSweep, withoutSweep + againSuffix, subject} {
			s, err := openServer(strings.HasPrefix(impl, withoutSweep))
			if err != nil {
				return err
			}
			defer s.close()
			list = append(list, entry{impl, s.once})
		}
		b.report.addRace(withoutSweep, "sweep", name, race(b.log, list, b.pairs), secPerOp)
	}
	return nil
}

// A server is a process that runs a no-op whenever it is asked to.
type server struct {
	*limit
}

func openServer(noSweep bool) (server, error) {
	self, err := os.Executable()
	if err != nil {
		return server{}, err
	}
	dir, err := buildDir()
	if err != nil {
		return server{}, err
	}
	noop() // build it now
	arg, err := json.Marshal(request{Kind: "serve", Impl: subject, BuildDir: dir, NoSweep: noSweep})
	if err != nil {
		return server{}, err
	}
	l, err := start(exec.Command(self, selfChild, string(arg)))
	return server{l}, err
}

func (s server) once() (sample, error) {
	took, _, _, err := s.limit.once()
	return seconds(took), err
}

// serve is the other side. It answers as limit.c does.
func serve(i impl, noSweep bool) error {
	if noSweep {
		if unknown := sys.Disable("sweep"); unknown != "" {
			return fmt.Errorf("nothing is called %q", unknown)
		}
	}
	command, in := noop(), bufio.NewReader(os.Stdin)
	for {
		if _, err := in.ReadByte(); err != nil {
			return nil
		}
		_, took, err := timed(i, &job{argv: command})
		if err != nil {
			return err
		}
		fmt.Println(took.Nanoseconds(), 0, 0)
	}
}
