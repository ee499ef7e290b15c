package stdio

import (
	"os"
	"os/exec"
	"reflect"
)

// HasPipes reports whether StdinPipe or its kin opened a pipe, which Wait closes and the caller may be at until then.
// Where os/exec does not keep them where it always did, a field may name one.
func HasPipes(cmd *exec.Cmd) bool {
	if pipesField == nil {
		return Direct(cmd.Stdin) || Direct(cmd.Stdout) || Direct(cmd.Stderr)
	}
	return reflect.ValueOf(cmd).Elem().FieldByIndex(pipesField).Len() > 0
}

// pipesField is where they are in a Cmd: one may be in none of its public fields any more.
var pipesField = sliceField("parentIOPipes")

// MadeByPipe reports whether a file of the command's is the end that StdinPipe or its kin made for the child.
func MadeByPipe(cmd *exec.Cmd, file *os.File) bool {
	if childField == nil || file == nil {
		return false
	}
	files := reflect.ValueOf(cmd).Elem().FieldByIndex(childField)
	for i := range files.Len() {
		f := files.Index(i).Elem()
		if f.Kind() == reflect.Pointer && f.UnsafePointer() == reflect.ValueOf(file).UnsafePointer() {
			return true
		}
	}
	return false
}

var childField = sliceField("childIOFiles")

// sliceField returns where a slice is in a Cmd, nil if there is none of that name.
func sliceField(name string) []int {
	field, ok := reflect.TypeFor[exec.Cmd]().FieldByName(name)
	if !ok || field.Type.Kind() != reflect.Slice {
		return nil
	}
	return field.Index
}

// PipesAreSeen reports whether os/exec keeps what StdoutPipe and its kin opened where it is looked for.
func PipesAreSeen() bool { return pipesField != nil }

// Direct reports whether a stream of the command's bypasses this process.
func Direct(stream any) bool {
	_, ok := stream.(*os.File)
	return ok
}
