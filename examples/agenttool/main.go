// Agenttool is the shell of a coding agent: a server of the Model Context Protocol on its standard
// input and output.
//
//	agenttool [-dir DIR] [-work DIR] [-yield 10s] [-timeout 10m] [-sandbox none|auto|bwrap|landlock]
//
// The tools are run, run_in_background, output, input, kill and list. A command that has not ended
// after ten seconds, or has left processes behind, goes on as a job with a name, and the model gets its
// turn back. It sees the head and the tail of the output, and the path of a file with all of it. A command
// has no terminal and reads end of file, so that nothing waits for an answer that never comes.
//
// Jobs belong to the directory of -dir and not to this program. When the client ends it, or kills it,
// they go on, and the next one that uses the directory finds them.
//
// A sandbox keeps a command from writing outside the working directory and the directory for temporary
// files. That is all it does: the command can read what the user can, and use the network. See package sandbox.
//
// To make it yours, change the descriptions in serve, which the model reads, and in package shell environment,
// which is what the commands see, and the two sizes in excerpt.go, which are what the model gets to see.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/examples/agenttool/sandbox"
	"github.com/seed841d8200/safeexec/examples/agenttool/shell"
	"github.com/seed841d8200/safeexec/job"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == sandbox.Restricted {
		slog.Error("the sandbox failed, and the command was not started", "err", sandbox.Restrict(os.Args[2], os.Args[3:]))
		os.Exit(126)
	}
	if err := run(); err != nil {
		slog.Error("agenttool", "err", err)
		os.Exit(1)
	}
}

func run() error {
	private := filepath.Join(os.TempDir(), fmt.Sprintf("agenttool-%d", os.Getuid()))
	dir := flag.String("dir", private, "`directory` of the jobs and their output")
	work := flag.String("work", ".", "`directory` that commands run in")
	yield := flag.Duration("yield", 10*time.Second, "`time` until a command goes on as a job")
	timeout := flag.Duration("timeout", 10*time.Minute, "`time` that a command of run may take, as a job too")
	kind := flag.String("sandbox", "none", "`kind` of sandbox: none, auto, bwrap or landlock")
	flag.Parse()
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	// Standard output is the protocol's; the log goes to standard error.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))

	directory, err := filepath.Abs(*work)
	if err != nil {
		return err
	}
	box, err := sandbox.New(*kind, directory)
	if err != nil {
		return err
	}
	store, err := job.Open(*dir)
	if err != nil {
		return err
	}
	defer store.Close()
	found, err := store.Adopt(ctx)
	if err != nil {
		return err
	}
	for _, a := range found {
		slog.Info("found", "job", a.Status.String(), "err", a.Err)
	}
	sh := &shell.Shell{Store: store, Work: directory, Yield: *yield, Timeout: *timeout, Wrap: box.Wrap}
	slog.Info("serving", "work", directory, "jobs", *dir, "sandbox", box.Name)
	err = serve(ctx, sh)
	if ctx.Err() != nil {
		return nil // as it was told to
	}
	return err
}

type (
	commandArgs struct {
		Command string `json:"command" jsonschema:"a command line for the shell"`
	}
	backgroundArgs struct {
		Command string `json:"command" jsonschema:"a command line for the shell"`
		Input   bool   `json:"input,omitempty" jsonschema:"if the tool input is to write; it never reads end of file"`
	}
	jobArgs struct {
		Job string `json:"job" jsonschema:"the name of the job"`
	}
	inputArgs struct {
		Job  string `json:"job" jsonschema:"the name of the job"`
		Text string `json:"text" jsonschema:"what the job reads; end a line with a newline"`
	}
	listArgs struct{}
)

// serve serves one client until that closes the connection or ctx is done.
func serve(ctx context.Context, sh *shell.Shell) error {
	server := mcp.NewServer(&mcp.Implementation{Name: "shell", Version: "1"}, nil)
	add(server, "run", fmt.Sprintf("Runs a command and returns its output. After %v it goes on as a job; "+
		"it is ended %v after its start. It has no terminal and no input.", sh.Yield, sh.Timeout),
		func(ctx context.Context, a commandArgs) (shell.Reply, error) { return sh.Run(ctx, a.Command) })
	add(server, "run_in_background", "Starts a server or another command that goes on until kill, "+
		"and after the end of this conversation.",
		func(ctx context.Context, a backgroundArgs) (shell.Reply, error) {
			return sh.Background(ctx, a.Command, a.Input)
		})
	add(server, "output", "Says how a job is and returns its output.",
		func(ctx context.Context, a jobArgs) (shell.Reply, error) { return sh.Output(ctx, a.Job) })
	add(server, "input", "Writes to the standard input of a job that was started with input.",
		func(ctx context.Context, a inputArgs) (shell.Reply, error) { return sh.Input(ctx, a.Job, a.Text) })
	add(server, "kill", "Ends a job with all of its processes.",
		func(ctx context.Context, a jobArgs) (shell.Reply, error) { return sh.Kill(ctx, a.Job) })
	add(server, "list", "Lists the jobs, those that have ended too.",
		func(context.Context, listArgs) (shell.Reply, error) { return sh.List() })
	return server.Run(ctx, &mcp.StdioTransport{})
}

// add adds a tool. The model reads the reply as text; a program has it in fields. An error of f is one of
// the tool's, which the model reads too.
func add[In any](server *mcp.Server, name, description string, f func(context.Context, In) (shell.Reply, error)) {
	tool := &mcp.Tool{Name: name, Description: description}
	type request = *mcp.CallToolRequest
	mcp.AddTool(server, tool, func(ctx context.Context, _ request, in In) (*mcp.CallToolResult, shell.Reply, error) {
		r, err := f(ctx, in)
		if err != nil {
			return nil, shell.Reply{}, err
		}
		return &mcp.CallToolResult{
			Content: []mcp.Content{&mcp.TextContent{Text: r.Text()}},
			IsError: r.Failed,
		}, r, nil
	})
}
