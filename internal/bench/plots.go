package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// A plotted is a picture of the report: nil where it has nothing to show.
type plotted struct {
	name string
	what string
	draw func(*report) ([]byte, error)
}

var pictures = []plotted{
	{"latency.svg", "time of a no-op relative to os/exec, with intervals and noise floor", latencyPicture},
	{"memory.svg", "memory and threads by number of sleeping commands", memoryPicture},
	{"throughput.svg", "throughput through the streams", throughputPicture},
	{"kill.svg", "time to end a tree by its size", killPicture},
}

// plot draws all pictures into a directory. What there is nothing to draw of is removed.
func (r *report) plot(dir string) error {
	for _, p := range pictures {
		path := filepath.Join(dir, p.name)
		svg, err := p.draw(r)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if svg == nil {
			_ = os.Remove(path)
			continue
		}
		if err := os.WriteFile(path, svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func latencyPicture(r *report) ([]byte, error) {
	var panels []*plot.Plot
	names := implsOf(r, "latency", secPerOp, reference, twin)
	for _, c := range []struct{ name, title string }{
		{"program=noop/at-once=1", "one at a time"},
		{"program=noop/at-once=16", "16 at once"},
		{"program=noop/at-once=256", "256 at once"},
	} {
		if r.find("latency", c.name, subject, secPerOp) == nil {
			continue
		}
		p := newPanel(c.title)
		here := slices.Clone(names)
		for i, name := range here {
			if r.find("latency", c.name, name, secPerOp) == nil {
				here[i] = ""
			}
		}
		p.NominalY(backwards(here)...)
		p.Y.Min, p.Y.Max, p.Y.Padding = -0.5, float64(len(names))-0.5, 4
		logarithmic(&p.X, 0.24, 9, []float64{0.25, 0.5, 1, 2, 4, 8}, number)
		p.X.Label.Text = "ratio to " + reference
		if floor := r.find("latency", c.name, twin, secPerOp); floor != nil {
			if err := band(p, *floor.Ratio, float64(len(names))); err != nil {
				return nil, err
			}
		}
		one, err := plotter.NewLine(plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(names)) - 0.5}})
		if err != nil {
			return nil, err
		}
		one.Color = faint
		p.Add(one)
		for i, name := range names {
			if w := r.find("latency", c.name, name, secPerOp); w != nil && w.Ratio != nil {
				at := float64(len(names) - 1 - i)
				if err := dots(p, at, *w.Ratio, colorOf(name), fmt.Sprintf("%.2f", w.Ratio.Median)); err != nil {
					return nil, err
				}
			}
		}
		panels = append(panels, p)
	}
	return drawn(r, "Time of a no-op, relative to os/exec with all its safety: less is better",
		"median of the paired ratios and its 95 % interval; gray: the noise floor, os/exec against itself", 290, panels)
}

func throughputPicture(r *report) ([]byte, error) {
	var panels []*plot.Plot
	most := 0.0
	for _, w := range r.Rows {
		if w.Workload == "throughput" && w.Unit == secPerGiB {
			most = max(most, 1/w.Value.Low)
		}
	}
	for _, c := range []struct{ name, title string }{
		{"stdout=1MiB-kept", "captured, 1 MiB kept"},
		{"stdout=Writer", "to a Writer"},
		{"stdin=Reader/stdout=Writer", "Reader, cat, Writer"},
	} {
		if r.find("throughput", c.name, subject, secPerGiB) == nil {
			continue
		}
		p := newPanel(c.title)
		names := slices.DeleteFunc(implsOf(r, "throughput", secPerGiB, twin), func(name string) bool {
			return r.find("throughput", c.name, name, secPerGiB) == nil
		})
		p.NominalY(backwards(names)...)
		p.Y.Min, p.Y.Max, p.Y.Padding = -0.5, float64(len(names))-0.5, 4
		p.X.Min, p.X.Max = 0, most*1.05
		p.X.Tick.Marker = whole
		p.X.Label.Text = "GiB a second"
		for i, name := range names {
			w := r.find("throughput", c.name, name, secPerGiB)
			rate := interval{1 / w.Value.Median, 1 / w.Value.High, 1 / w.Value.Low}
			if err := dots(p, float64(len(names)-1-i), rate, colorOf(name), fmt.Sprintf("%.2f", rate.Median)); err != nil {
				return nil, err
			}
		}
		panels = append(panels, p)
	}
	return drawn(r, "Throughput: more is better", "median and its 95 % interval", 250, panels)
}

// whole has a tick at each whole number.
var whole = plot.TickerFunc(func(least, most float64) (ticks []plot.Tick) {
	for v := math.Ceil(least); v <= most; v++ {
		ticks = append(ticks, plot.Tick{Value: v, Label: number(v)})
	}
	return ticks
})

func memoryPicture(r *report) ([]byte, error) {
	names := implsOf(r, "sleepers", "B", twin, "os", "k8s-exec") // those two are as the reference
	rss, err := curves(r, "memory of the host", "MiB, RSS", "sleeping commands", names, "sleepers", "commands=", "B", 1<<20)
	if err != nil {
		return nil, err
	}
	threads, err := curves(r, "threads of the host", "threads", "sleeping commands", names, "sleepers", "commands=", "threads", 1)
	if err != nil {
		return nil, err
	}
	return drawn(r, "Many sleeping commands: less is better",
		"all started at once, measured when all of them sleep and the garbage is collected", 300, list(rss, threads))
}

func killPicture(r *report) ([]byte, error) {
	deadline, err := curves(r, "from the end of the context to the return", "ms", "processes of the tree",
		implsOf(r, "deadline", secPerOp, twin), "deadline", "tree=", secPerOp, 1e-3)
	if err != nil {
		return nil, err
	}
	tree, err := curves(r, "SIGKILL to many sessions, until proved empty", "ms", "processes of the tree",
		implsOf(r, "killtree", secPerOp, byCgroup+againSuffix), "killtree", "mixed=", secPerOp, 1e-3)
	if err != nil {
		return nil, err
	}
	return drawn(r, "Time to end a tree: less is better",
		"left: os-safe kills one group and waits for the command alone; safeexec reports first, and proves the tree empty",
		300, list(deadline, tree))
}

// curves is a panel of values by a number that is in the name of the case.
func curves(r *report, title, unit, xs string, names []string, workload, prefix, of string, scale float64) (*plot.Plot, error) {
	p := newPanel(title)
	p.X.Label.Text, p.Y.Label.Text = xs, unit
	var allX, allY []float64
	for _, name := range names {
		var x []float64
		var y []interval
		for _, w := range r.Rows {
			number, fits := strings.CutPrefix(w.Case, prefix)
			n, err := strconv.Atoi(number)
			if w.Workload != workload || w.Impl != name || w.Unit != of || w.N == 0 || !fits || err != nil {
				continue
			}
			x = append(x, float64(n))
			y = append(y, interval{w.Value.Median / scale, w.Value.Low / scale, w.Value.High / scale})
			allY = append(allY, w.Value.Low/scale, w.Value.High/scale)
		}
		allX = append(allX, x...)
		if len(x) == 0 {
			continue
		}
		if err := curve(p, name, x, y); err != nil {
			return nil, err
		}
	}
	if len(allX) == 0 {
		return nil, nil
	}
	slices.Sort(allX)
	logarithmic(&p.X, allX[0]/1.3, allX[len(allX)-1]*1.3, allX, number)
	ticks := decades(allY...)
	logarithmic(&p.Y, ticks[0], ticks[len(ticks)-1]*1.2, ticks, number)
	return p, nil
}

func list(panels ...*plot.Plot) []*plot.Plot {
	return slices.DeleteFunc(panels, func(p *plot.Plot) bool { return p == nil })
}

// drawn is the picture of the panels with what it was measured on, nothing if there are none.
func drawn(r *report, title, small string, height vg.Length, panels []*plot.Plot) ([]byte, error) {
	if len(panels) == 0 {
		return nil, nil
	}
	return picture(title, small+". "+r.Environment.short(), 860, height, panels...)
}

// implsOf returns those that a workload measured in a unit, in their order, without some.
func implsOf(r *report, workload, unit string, without ...string) []string {
	var names []string
	for _, w := range r.Rows {
		if w.Workload == workload && w.Unit == unit && w.N > 0 && !slices.Contains(without, w.Impl) && !slices.Contains(names, w.Impl) {
			names = append(names, w.Impl)
		}
	}
	return names
}

func backwards(names []string) []string {
	names = slices.Clone(names)
	slices.Reverse(names)
	return names
}
