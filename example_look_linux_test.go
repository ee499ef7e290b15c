package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
)

// inheritable opens a file as a library does that forgets O_CLOEXEC.
func inheritable() int {
	fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY, 0)
	if err != nil {
		log.Fatal(err)
	}
	return fd
}

func ExampleAuditFDs() {
	fd := inheritable()
	defer syscall.Close(fd)
	all, err := safeexec.AuditFDs()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, d := range all {
		if d.Num == fd {
			fmt.Println(d.Target, "close-on-exec:", d.CloseOnExec)
		}
	}
	// Output: /dev/null close-on-exec: false
}

// A health check of a service says so before it blocks in a write to its log.
func ExampleAuditStdio() {
	for _, finding := range safeexec.AuditStdio() {
		log.Print(finding)
	}
}

// What would leak is refused, and not only marked.
func ExampleWithFDPolicy() {
	fd := inheritable()
	defer syscall.Close(fd)
	_, err := safeexec.Run(context.Background(), exec.Command("true"),
		safeexec.WithTimeout(time.Minute), safeexec.WithFDPolicy(safeexec.FDRefuse))
	var leaked *safeexec.LeakedFDsError
	fmt.Println(errors.As(err, &leaked))
	// Output: true
}

// A descriptor goes to the command under the number that it has here.
func ExampleWithFDs() {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	fmt.Fprint(w, "through a pipe")
	w.Close()
	fd := int(r.Fd())
	res, err := safeexec.Run(context.Background(), exec.Command("cat", fmt.Sprintf("/dev/fd/%d", fd)),
		safeexec.WithTimeout(time.Minute), safeexec.WithFDs(fd))
	fmt.Println(res.Stdout.String(), err)
	// Output: through a pipe <nil>
}

// Why does process 4711 not go on?
func ExampleExplain() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	report, err := safeexec.Explain(ctx, 4711)
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println(report.Verdict)
}

func ExampleExplainPipe() {
	r, w, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	defer w.Close()
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", w.Fd()))
	if err != nil {
		fmt.Println(err)
		return
	}
	var inode uint64
	if _, err := fmt.Sscanf(strings.TrimSuffix(name, "]"), "pipe:[%d", &inode); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(w, "1234")
	use, err := safeexec.ExplainPipe(context.Background(), inode)
	fmt.Println(use.Filled, "bytes of", len(use.Writers), "writer", err)
	// Output: 4 bytes of 1 writer <nil>
}

func ExampleOSProcess() {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	report, err := safeexec.KillTree(context.Background(), safeexec.OSProcess(cmd.Process), safeexec.WithTimeout(time.Minute))
	fmt.Println(len(report.Survivors), err)
	_ = cmd.Wait()
	// Output: 0 <nil>
}

// A supervisor that runs commands as root of its own tree reaps what they leave.
func ExampleSetSubreaper() {
	if err := safeexec.SetSubreaper(); err != nil {
		log.Fatal(err)
	}
}

// At the start of a service, what an earlier one that was killed has left is ended.
func ExampleRemoveStaleCgroups() {
	n, err := safeexec.RemoveStaleCgroups("")
	if err != nil {
		log.Print(err)
	}
	log.Printf("%d cgroups of earlier runs were removed", n)
}

// What was left to run writes into nothing from here on, and gets SIGPIPE.
func ExampleLeftPipes() {
	for _, p := range safeexec.LeftPipes() {
		p.Release()
	}
}
