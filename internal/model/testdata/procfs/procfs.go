// Package procfs is what proctree uses of the real one, on a simulated kernel.
package procfs

import (
	"io/fs"

	"github.com/seed841d8200/safeexec/internal/model/testdata/kernel"
	"github.com/seed841d8200/safeexec/internal/procfs"
)

const (
	Self         = procfs.Self
	LimitRTTime  = procfs.LimitRTTime
	EnvironFound = procfs.EnvironFound
)

type (
	Usage         = procfs.Usage
	Stat          = procfs.Stat
	Status        = procfs.Status
	KernelStat    = procfs.KernelStat
	EnvironAnswer = procfs.EnvironAnswer
)

var (
	ErrInExec    = procfs.ErrInExec
	ParseLoadavg = procfs.ParseLoadavg
	Ticks        = procfs.Ticks
)

func ReadPeak(int) (int64, error)  { return 0, fs.ErrNotExist }
func ReadUsage(int) (Usage, error) { return Usage{}, fs.ErrNotExist }

func Foreign() bool                 { return false }
func Absent() bool                  { return false }
func ReadBootID() (string, error)   { return "boot", nil }
func PIDs() ([]int, error)          { return kernel.K.List(nil), nil }
func ReadExitCode(int) (int, error) { return 0, fs.ErrNotExist }

func AppendPIDs(pids []int) ([]int, error) { return kernel.K.List(pids), nil }

func Children(pid int) ([]int, error) {
	if pid == Self {
		pid = kernel.K.Self()
	}
	return kernel.K.Children(pid)
}

func ReadKernelStat() (KernelStat, error) {
	forks, system := kernel.K.Stat()
	return KernelStat{Forks: forks, System: system}, nil
}

func ReadStat(pid int) (Stat, error) {
	p, err := kernel.K.Read(pid)
	if err != nil {
		return Stat{}, err
	}
	return Stat{
		PID: pid, PPID: p.Parent(), PGRP: p.Group, Session: p.Session, State: p.State(), StartTime: p.Start,
		Comm: "program", NumThreads: 1,
	}, nil
}

func ReadStatNoComm(pid int) (Stat, error) { return ReadStat(pid) }

func ReadStatus(pid int) (Status, error) {
	_, err := kernel.K.Read(pid)
	return Status{TGID: pid}, err
}

func ReadLimit(pid int, _ string) (soft, hard uint64, err error) {
	p, err := kernel.K.Read(pid)
	if err != nil {
		return 0, 0, err
	}
	return p.Soft, p.Hard, nil
}

type Thread struct{ p *kernel.Proc }

func OpenThread(pid int) (Thread, error) {
	p, err := kernel.K.Read(pid)
	if err == nil && p.State() == 'Z' {
		err = fs.ErrNotExist
	}
	return Thread{p}, err
}

func (Thread) Close() {}

func (t Thread) Environ(string) (string, EnvironAnswer, error) {
	if t.p.State() == 'Z' || t.p.State() == 0 {
		return "", procfs.EnvironUnknown, nil
	}
	if t.p.Environ == "" {
		return "", procfs.EnvironAbsent, nil
	}
	return t.p.Environ, EnvironFound, nil
}
