// Fdaudit shows which descriptors a program was born with, and what its children get of them.
//
//	go build -o fdaudit ./examples/fdaudit
//	./fdaudit 5</etc/hostname 9>/tmp/log 200</dev/null
//
// It prints the table of its own descriptors, says what is wrong with its standard streams (try
// 2>&1 | sleep 9), and lists what ls gets when os/exec starts it and when safeexec does.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
)

func main() {
	table, err := safeexec.AuditFDs()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print("this process has\n\n", table, "\n")
	for _, finding := range safeexec.AuditStdio() {
		fmt.Println("wrong with", finding)
	}

	out, err := list().Output()
	show("os/exec ", out, err)

	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	limit := safeexec.WithTimeout(10 * time.Second)
	res, err := safeexec.Run(ctx, list(), limit, safeexec.WithFDPolicy(safeexec.FDReport))
	show("report  ", res.Stdout.Bytes(), err)

	// What would have been inherited is marked by the first start, and named in its result.
	res, err = safeexec.Run(ctx, list(), limit, safeexec.WithFDProof())
	show("safeexec", res.Stdout.Bytes(), err)
	fmt.Println("proved:", res.FDsProved)
	for _, fd := range res.MarkedFDs {
		fmt.Println("newly marked close-on-exec:", fd)
	}
	for _, fd := range res.DeclaredFDs {
		fmt.Println("left, because the environment declares it:", fd)
	}
}

// list is a command that prints its own descriptors, and the one that it needs for that.
func list() *exec.Cmd { return exec.Command("ls", "/proc/self/fd") }

func show(who string, out []byte, err error) {
	if err != nil {
		fmt.Println(who, "failed:", err)
		return
	}
	fmt.Println(who, "hands on", strings.Join(strings.Fields(string(out)), " "))
}
