package safeexec

import (
	"os/exec"
	"reflect"
)

// hasPipes reports whether StdinPipe or its kin opened a pipe, which Wait closes and the caller may be at until then.
// Where os/exec does not keep them where it always did, a field may name one.
func hasPipes(cmd *exec.Cmd) bool {
	if pipesField == nil {
		return direct(cmd.Stdin) || direct(cmd.Stdout) || direct(cmd.Stderr)
	}
	return reflect.ValueOf(cmd).Elem().FieldByIndex(pipesField).Len() > 0
}

// pipesField is where they are in a Cmd: one may be in none of its public fields any more.
var pipesField = func() []int {
	field, ok := reflect.TypeFor[exec.Cmd]().FieldByName("parentIOPipes")
	if !ok || field.Type.Kind() != reflect.Slice {
		return nil
	}
	return field.Index
}()
