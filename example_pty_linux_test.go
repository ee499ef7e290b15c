package safeexec_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
)

// A program that asks shows its question, and gets an answer.
func ExampleWithPTY() {
	cmd := exec.Command("sh", "-c", `stty -echo; printf 'Name:'; read -r name; echo; echo "Hello, $name, on $(stty size)"`)
	answers, typed := io.Pipe()
	cmd.Stdin = answers
	cmd.Stdout = &answering{question: "Name:", answer: func() {
		_, _ = io.WriteString(typed, "Ada\n")
		_ = typed.Close()
	}}
	_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithPTY(24, 80))
	fmt.Println(strings.ReplaceAll(cmd.Stdout.(*answering).String(), "\r", ""), err)
	// Output:
	// Name:
	// Hello, Ada, on 24 80
	//  <nil>
}

// An answering Writer answers a question once.
type answering struct {
	bytes.Buffer
	question string
	answer   func()
}

func (a *answering) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	if a.answer != nil && bytes.Contains(a.Bytes(), []byte(a.question)) {
		go a.answer()
		a.answer = nil
	}
	return n, err
}

func ExampleProcess_Resize() {
	cmd := exec.Command("sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done")
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(time.Minute), safeexec.WithPTY(24, 80))
	if err != nil {
		fmt.Println(err)
		return
	}
	for line := range p.Lines(context.Background()) {
		fmt.Println(line.Text)
		if line.Text == "ready" {
			fmt.Println(p.Resize(50, 132))
		}
	}
	_, _ = p.Wait()
	// Output:
	// ready
	// <nil>
	// 50 132
}
