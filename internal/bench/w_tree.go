package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
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
		lanes := race(b.note, []entry{
			reaping(byCgroup, killLeaf), reaping(byCgroup+againSuffix, killLeaf),
			reaping(subject, killSafeexec()),
			reaping(inCgroup, killSafeexec(safeexec.WithContainment(safeexec.ContainmentCgroup))),
		}, max(b.few, 3))
		b.report.addRace(byCgroup, "killtree", fmt.Sprintf("mixed=%d", n), lanes, secPerOp)
	}
	return nil
}

func seconds(d time.Duration) sample {
	return sample{values: map[string]float64{secPerOp: d.Seconds()}, each: []float64{d.Seconds()}}
}

func killSafeexec(opts ...safeexec.Option) func(command []string) (sample, error) {
	opts = append(opts, safeexec.WithTimeout(runTimeout), safeexec.WithTermSignal(syscall.SIGKILL))
	return func(command []string) (sample, error) { return startAndStop(command, opts) }
}

func startAndStop(command []string, opts []safeexec.Option) (sample, error) {
	out, w, err := os.Pipe()
	if err != nil {
		return sample{}, err
	}
	defer out.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout = w
	p, err := safeexec.Start(context.Background(), cmd, opts...)
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

// withoutSweep is safeexec that does not look for processes left after the exit.
const withoutSweep = "safeexec-no-sweep"

// sweep measures a no-op beside many processes that sleep, with the look for those that are left and
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
			var without []string
			if strings.HasPrefix(impl, withoutSweep) {
				without = []string{"sweep"}
			}
			s, err := openServer(without, 0)
			if err != nil {
				return err
			}
			defer s.close()
			list = append(list, entry{impl, s.once})
		}
		b.report.addRace(withoutSweep, "sweep", name, race(b.note, list, b.pairs), secPerOp)
	}
	return nil
}
