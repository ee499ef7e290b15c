package main

import (
	"fmt"
	"html"
	"io"
	"math"
)

// Measures of the picture, in pixels.
const (
	svgLeft  = 520
	svgPlot  = 420
	svgRight = 130
	svgRow   = 18
	svgTop   = 64
)

// The ratios are drawn on a logarithmic scale between these, what lies beyond is cut.
const (
	svgLeast = 0.25
	svgMost  = 4.0
)

// svg draws each ratio to the reference with its interval. The noise floor of each case is gray.
func (r *report) svg(w io.Writer) {
	var rows []row
	for _, row := range r.Rows {
		if row.Ratio != nil {
			rows = append(rows, row)
		}
	}
	height := svgTop + svgRow*len(rows) + 40
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		svgLeft+svgPlot+svgRight, height)
	fmt.Fprintf(w, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	e := &r.Environment
	fmt.Fprintf(w, `<text x="10" y="20" font-size="14">ratio to %s, median and 95 %% interval; less is better</text>`+"\n", reference)
	fmt.Fprintf(w, `<text x="10" y="40" fill="#555">%s</text>`+"\n", html.EscapeString(fmt.Sprintf("%s, %d CPUs, Linux %s, %s, %s, load %.2f to %.2f",
		e.CPU, e.CPUs, e.Kernel, e.Go, e.Date.Format("2006-01-02 15:04 UTC"), e.LoadBefore, e.LoadAfter)))
	for _, tick := range []float64{0.25, 0.5, 0.7, 1, 1.4, 2, 4} {
		x := svgX(tick)
		fmt.Fprintf(w, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n",
			x, svgTop-8, x, height-30, map[bool]string{true: "#888", false: "#eee"}[tick == 1], x, height-12, tick)
	}
	last := ""
	for n, row := range rows {
		y := svgTop + svgRow*n + svgRow/2
		name := row.Workload + " " + row.Case + ", " + row.Unit
		if name != last {
			fmt.Fprintf(w, `<text x="10" y="%d">%s</text>`+"\n", y+4, html.EscapeString(name))
			last = name
		}
		color := "#36c"
		switch row.Impl {
		case twin:
			color = "#aaa"
		case subject:
			color = "#c30"
		}
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end" fill="%s">%s</text>`+"\n", svgLeft-10, y+4, color, html.EscapeString(row.Impl))
		fmt.Fprintf(w, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="2"/><circle cx="%.1f" cy="%d" r="3.5" fill="%s"/>`,
			svgX(row.Ratio.Low), y, svgX(row.Ratio.High), y, color, svgX(row.Ratio.Median), y, color)
		fmt.Fprintf(w, `<text x="%d" y="%d" fill="#555">%.3f</text>`+"\n", svgLeft+svgPlot+16, y+4, row.Ratio.Median)
	}
	fmt.Fprintln(w, "</svg>")
}

func svgX(ratio float64) float64 {
	ratio = min(max(ratio, svgLeast), svgMost)
	return svgLeft + svgPlot*(math.Log(ratio)-math.Log(svgLeast))/(math.Log(svgMost)-math.Log(svgLeast))
}
