//go:build unix

package seam

import (
	"fmt"
	"os"
	"reflect" //nolint:depguard // os makes no ProcessState without a process
	"syscall"
	"unsafe"
)

// State returns the state of a process that never was. Only os can make one, so its fields are set where os has
// them; the error says that they are elsewhere.
func State(pid int, status syscall.WaitStatus) (*os.ProcessState, error) {
	state := new(os.ProcessState)
	for name, value := range map[string]any{"pid": pid, "status": status, "rusage": new(syscall.Rusage)} {
		field, ok := reflect.TypeFor[os.ProcessState]().FieldByName(name)
		if !ok || field.Type != reflect.TypeOf(value) {
			return nil, fmt.Errorf("os.ProcessState has no field %s of type %T", name, value)
		}
		at := unsafe.Add(unsafe.Pointer(state), field.Offset)
		reflect.NewAt(field.Type, at).Elem().Set(reflect.ValueOf(value))
	}
	return state, nil
}

// Exited is the status of a process that exited.
func Exited(code int) syscall.WaitStatus { return syscall.WaitStatus(code&0xff) << 8 }

// Signaled is the status of a process that died of a signal.
func Signaled(sig syscall.Signal) syscall.WaitStatus { return syscall.WaitStatus(sig) & 0x7f }
