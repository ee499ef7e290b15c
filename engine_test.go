package safeexec

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// What the engine counts is what the caller sees.
func TestEngineCountsAlike(t *testing.T) {
	assert.EqualValues(t, CauseNone, engine.CauseNone)
	assert.EqualValues(t, CauseExited, engine.CauseExited)
	assert.EqualValues(t, CauseTimeout, engine.CauseTimeout)
	assert.EqualValues(t, CauseCanceled, engine.CauseCanceled)
	assert.EqualValues(t, CauseIdle, engine.CauseIdle)
	assert.EqualValues(t, CauseOutputLimit, engine.CauseOutputLimit)
	assert.EqualValues(t, CauseStopped, engine.CauseStopped)
	assert.EqualValues(t, CauseStartFailed, engine.CauseStartFailed)
	assert.EqualValues(t, CauseLimits, engine.CauseLimits)
	assert.EqualValues(t, CauseWriterFailed, engine.CauseWriterFailed)

	assert.EqualValues(t, SignalerSafeexec, engine.SignalerSafeexec)
	assert.EqualValues(t, SignalerCaller, engine.SignalerCaller)
	assert.EqualValues(t, SignalerOther, engine.SignalerOther)

	assert.EqualValues(t, AbandonedStart, engine.AbandonedStart)
	assert.EqualValues(t, AbandonedStdin, engine.AbandonedStdin)
	assert.EqualValues(t, AbandonedStdout, engine.AbandonedStdout)
	assert.EqualValues(t, AbandonedStderr, engine.AbandonedStderr)
	assert.EqualValues(t, AbandonedLeader, engine.AbandonedLeader)
	assert.EqualValues(t, AbandonedReport, engine.AbandonedReport)
	assert.EqualValues(t, AbandonedLook, engine.AbandonedLook)
	assert.EqualValues(t, AbandonedPipe, engine.AbandonedPipe)
	assert.EqualValues(t, AbandonedTerminal, engine.AbandonedTerminal)

	assert.EqualValues(t, ContainmentExact, engine.ContainmentExact)
	assert.EqualValues(t, ContainmentCgroup, engine.ContainmentCgroup)
	assert.EqualValues(t, BackgroundWait, engine.BackgroundWait)
	assert.EqualValues(t, BackgroundLeave, engine.BackgroundLeave)
	assert.EqualValues(t, FDReport, engine.FDReport)
	assert.EqualValues(t, FDRefuse, engine.FDRefuse)
	assert.EqualValues(t, FDOff, engine.FDOff)
	assert.EqualValues(t, LimitCPU, engine.LimitCPU)
	assert.EqualValues(t, LimitAddressSpace, engine.LimitAddressSpace)
	assert.EqualValues(t, LimitOpenFiles, engine.LimitOpenFiles)
	assert.EqualValues(t, LimitProcesses, engine.LimitProcesses)
	assert.EqualValues(t, LimitFileSize, engine.LimitFileSize)
	assert.EqualValues(t, LimitCore, engine.LimitCore)
	assert.Equal(t, MaxLeftPipes, engine.MaxLeftPipes)
}
