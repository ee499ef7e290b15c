package engine

import (
	"slices"

	"github.com/seed841d8200/safeexec/internal/fdtable"
)

// sealFDs applies the policy, right before the clone. It must cost an ordinary start no more than the system call.
func (r starter) sealFDs() error {
	switch r.cfg.FDPolicy {
	case FDOff:
		return nil
	case FDMark:
		found := fdtable.Seal()
		if found.Marked != nil || found.Declared != nil || found.Err != nil {
			r.Facts.MarkedFDs = append(r.Facts.MarkedFDs, found.Marked...)
			r.Facts.DeclaredFDs = found.Declared
			r.Facts.FDErr = found.Err
		}
		return nil
	case FDReport, FDRefuse:
	}
	found := fdtable.Survey(r.own.Env)
	r.Facts.LeakedFDs, r.Facts.DeclaredFDs, r.Facts.FDErr = found.Leaked, found.Declared, found.Err
	if r.cfg.FDPolicy == FDReport {
		return nil
	}
	if found.Err != nil {
		return Errors{ErrFDsUnknown, found.Err}
	}
	if len(found.Leaked) > 0 {
		return &LeakedFDsError{FDs: r.Facts.LeakedFDs}
	}
	return nil
}

// passedFDs returns the descriptors that are passed on by number, and the unmarked ones that this command does not get.
func (r starter) passedFDs() (passed, withheld []int) {
	if r.cfg.FDPolicy == FDOff {
		return r.cfg.FDs, nil
	}
	handed, withheld := fdtable.Declared(r.own.Env)
	extra := fdtable.FirstFD + len(r.cmd.ExtraFiles)
	handed = slices.DeleteFunc(handed, func(fd int) bool { return fd < extra })
	if r.cfg.FDPolicy == FDReport {
		withheld = nil // it changes nothing
	}
	return append(handed, r.cfg.FDs...), withheld
}
