package safeexectest

import (
	"fmt"
	"slices"

	"github.com/seed841d8200/safeexec"
)

// A KillExpectation is a call of safeexec.KillTree that a [Fake] expects, once unless [KillExpectation.Times] says
// otherwise.
type KillExpectation struct {
	expectation *Expectation
	pid         int
	result      *safeexec.TreeResult
	errs        []error
}

// ExpectKillTree expects a call of safeexec.KillTree for a process. It ends that process and no other unless
// [KillExpectation.Return] says otherwise. Its place among the commands counts where the Fake is Ordered.
func (f *Fake) ExpectKillTree(pid int) *KillExpectation {
	k := &KillExpectation{pid: pid}
	k.expectation = f.add(&Expectation{what: killName(pid), kill: k})
	return k
}

func killName(pid int) string { return fmt.Sprintf("KillTree of process %d", pid) }

// Return says what comes of the call. The error of KillTree has the reasons, such as safeexec.ErrNoProcess or
// safeexec.ErrProtected; Survivors make the errors that belong to them. A result without a Root gets the target.
func (k *KillExpectation) Return(result safeexec.TreeResult, reasons ...error) *KillExpectation {
	k.expectation.fake.mu.Lock()
	defer k.expectation.fake.mu.Unlock()
	k.result, k.errs = &result, reasons
	return k
}

// Times says how often the call is expected, each time with the same outcome.
func (k *KillExpectation) Times(n int) *KillExpectation {
	k.expectation.Times(n)
	return k
}

// KillTree implements seam.Killer.
func (a answers) KillTree(target, settings any) (result any, errs []error) {
	f := a.fake
	r := new(record)
	r.call.KillTree, _ = target.(safeexec.ProcessInfo)
	r.call.Settings, _ = settings.(safeexec.Settings)
	root := r.call.KillTree
	f.mu.Lock()
	e, err := f.take(r, killName(root.PID), func(e *Expectation) bool { return e.kill != nil && e.kill.pid == root.PID })
	if err != nil {
		f.mu.Unlock()
		f.t.Errorf("%v", err)
		return safeexec.TreeResult{Root: root}, []error{err}
	}
	defer f.mu.Unlock()
	if e.kill.result == nil {
		return safeexec.TreeResult{Root: root, Killed: []safeexec.ProcessInfo{root}}, nil
	}
	res := *e.kill.result
	if res.Root == (safeexec.ProcessInfo{}) {
		res.Root = root
	}
	res.Killed, res.Survivors = slices.Clone(res.Killed), slices.Clone(res.Survivors)
	return res, slices.Clone(e.kill.errs)
}
