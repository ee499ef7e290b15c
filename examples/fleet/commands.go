package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nuid"
)

// asked parses the arguments, of which n are left, and connects.
func asked(ctx context.Context, c *cli, args []string, n int) (*fleet, error) {
	if err := c.Parse(args); err != nil || c.NArg() != n {
		return nil, errUsage
	}
	return c.connect(ctx)
}

func submit(ctx context.Context, c *cli, args []string) error {
	var j Job
	c.StringVar(&j.ID, "id", "", "`id`; the same one again is the same job")
	c.StringVar(&j.Label, "label", "linux", "`label` of the machines")
	c.StringVar(&j.Dir, "dir", "", "working `directory` there")
	c.DurationVar(&j.Timeout, "timeout", time.Minute, "of the command")
	wait := c.Bool("wait", false, "write its output, and end as it does")
	if err := c.Parse(args); err != nil || c.NArg() == 0 {
		return errUsage
	}
	if j.Args = c.Args(); j.ID == "" {
		j.ID = nuid.Next()
	}
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.submit(ctx, j); err != nil {
		return err
	}
	if !*wait {
		fmt.Println(j.ID)
		return nil
	}
	return show(ctx, f, j.ID)
}

// show follows a job, and is its status.
func show(ctx context.Context, f *fleet, id string) error {
	r, err := f.follow(ctx, id, os.Stdout)
	if err != nil {
		return err
	}
	say("%s on %s: %s", r.State, r.Host, r.Text)
	if r.State == Succeeded {
		return nil
	}
	return exitCode(max(1, r.Code))
}

func logs(ctx context.Context, c *cli, args []string) error {
	live := c.Bool("f", false, "wait for what comes")
	f, err := asked(ctx, c, args, 1)
	if err != nil {
		return err
	}
	defer f.close()
	id := c.Arg(0)
	if !ids.MatchString(id) {
		return ErrID
	}
	if *live {
		return show(ctx, f, id)
	}
	var r Result
	switch found, _, err := f.get(ctx, "result."+id, &r); {
	case err != nil:
		return err
	case !found:
		return fmt.Errorf("job %s has no result yet; -f waits for it", id)
	}
	log, err := f.log(ctx, r)
	if err != nil {
		return err
	}
	defer log.Close()
	_, err = io.Copy(os.Stdout, log)
	return err
}

// lookOnce connects and returns what there is.
func lookOnce(ctx context.Context, c *cli, args []string) (view, error) {
	f, err := asked(ctx, c, args, 0)
	if err != nil {
		return view{}, err
	}
	defer f.close()
	return f.look(ctx)
}

func ps(ctx context.Context, c *cli, args []string) error {
	v, err := lookOnce(ctx, c, args)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ID\tLABEL\tSTATE\tHOST\tCOMMAND")
	for _, j := range v.Jobs {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%q\n", j.ID, j.Label, j.State, j.Host, strings.Join(j.Args, " "))
	}
	return table.Flush()
}

func nodes(ctx context.Context, c *cli, args []string) error {
	v, err := lookOnce(ctx, c, args)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "HOST\tSLOTS\tRUNNING\tDRAINING\tSEEN")
	for _, n := range v.Nodes {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%t\t%s\n",
			n.Host, slotsFlag(n.Slots), n.Running, n.Draining, n.Time.Format(time.TimeOnly))
	}
	return table.Flush()
}

func cancel(ctx context.Context, c *cli, args []string) error {
	f, err := asked(ctx, c, args, 1)
	if err != nil {
		return err
	}
	defer f.close()
	return f.cancel(ctx, c.Arg(0))
}

func drain(ctx context.Context, c *cli, args []string) error {
	f, err := asked(ctx, c, args, 1)
	if err != nil {
		return err
	}
	defer f.close()
	if !ids.MatchString(c.Arg(0)) {
		return ErrID
	}
	_, err = f.nc.RequestWithContext(ctx, drainSubj+c.Arg(0), nil)
	return err
}
