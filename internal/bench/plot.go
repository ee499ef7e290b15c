package main

import (
	"bytes"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The colors of the pictures.
var (
	ink     = color.RGBA{0x22, 0x26, 0x2b, 0xff}
	faint   = color.RGBA{0x6b, 0x72, 0x7b, 0xff}
	hair    = color.RGBA{0xdb, 0xdf, 0xe4, 0xff}
	shade   = color.RGBA{0xe4, 0xe8, 0xed, 0xff}
	another = color.RGBA{0x8a, 0x93, 0x9e, 0xff}

	colors = map[string]color.RGBA{
		subject:   {0xc8, 0x3e, 0x2c, 0xff},
		inCgroup:  {0xe0, 0x8a, 0x2e, 0xff},
		withProof: {0x8e, 0x5a, 0xa8, 0xff},
		reference: {0x2b, 0x6c, 0xb0, 0xff},
		byCgroup:  {0x2f, 0x85, 0x5a, 0xff},
		"go-cmd":  {0x4f, 0xa3, 0xa5, 0xff},
		"script":  {0x9a, 0x8b, 0x4f, 0xff},
		"sh":      {0x6b, 0x7a, 0x3a, 0xff},
	}
)

func colorOf(impl string) color.RGBA {
	if c, ok := colors[impl]; ok {
		return c
	}
	return another
}

func init() { plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"} }

func textStyle(size vg.Length, c color.Color) text.Style {
	return text.Style{Color: c, Font: font.From(plot.DefaultFont, size), Handler: plot.DefaultTextHandler,
		XAlign: draw.XLeft, YAlign: draw.YTop}
}

// newPanel is one pair of axes.
func newPanel(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = 6
	p.Title.TextStyle.Font.Size = 11
	p.Title.TextStyle.Color = ink
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Color = another
		axis.Label.TextStyle.Font.Size = 9.5
		axis.Label.TextStyle.Color = faint
		axis.Tick.Label.Font.Size = 9.5
		axis.Tick.Label.Color = ink
		axis.Tick.Color = another
		axis.Tick.Length = 3
	}
	p.Legend.TextStyle.Font.Size = 9.5
	p.Legend.TextStyle.Color = ink
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.XOffs, p.Legend.YOffs = 8, -6
	p.Legend.ThumbnailWidth = 16
	p.Legend.Padding = 2
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = hair, hair
	p.Add(grid)
	return p
}

// logarithmic gives an axis a logarithmic scale between two values, with a tick wherever step says.
func logarithmic(a *plot.Axis, least, most float64, ticks []float64, label func(float64) string) {
	a.Scale = plot.LogScale{}
	a.Min, a.Max = least, most
	var marks []plot.Tick
	for i, v := range ticks {
		if v >= least && v <= most && (i == 0 || v != ticks[i-1]) {
			marks = append(marks, plot.Tick{Value: v, Label: label(v)})
		}
	}
	a.Tick.Marker = plot.ConstantTicks(marks)
}

// decades are round numbers around the values: powers of ten, and 2 and 5 times them where there
// are few.
func decades(values ...float64) []float64 {
	least, most := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if v > 0 {
			least, most = min(least, v), max(most, v)
		}
	}
	var ticks []float64
	steps := []float64{1}
	if most/least < 100 {
		steps = []float64{1, 2, 5}
	}
	for e := math.Floor(math.Log10(least)); e <= math.Ceil(math.Log10(most)); e++ {
		for _, step := range steps {
			ticks = append(ticks, step*math.Pow(10, e))
		}
	}
	first, last := 0, len(ticks)-1
	for first < last && ticks[first+1] <= least {
		first++
	}
	for last > first && ticks[last-1] >= most {
		last--
	}
	return ticks[first : last+1]
}

func number(v float64) string {
	if v >= 1 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}

// spans are points with an interval, of either direction.
type spans struct {
	plotter.XYs
	errors []struct{ Low, High float64 }
}

func (s *spans) XError(i int) (low, high float64) { return s.errors[i].Low, s.errors[i].High }
func (s *spans) YError(i int) (low, high float64) { return s.errors[i].Low, s.errors[i].High }

func (s *spans) add(at float64, along, low, high float64, vertical bool) {
	xy := plotter.XY{X: along, Y: at}
	if vertical {
		xy = plotter.XY{X: at, Y: along}
	}
	s.XYs = append(s.XYs, xy)
	s.errors = append(s.errors, struct{ Low, High float64 }{along - low, high - along})
}

// dots adds points with horizontal intervals and the value of each as a text at the right.
func dots(p *plot.Plot, at float64, v interval, c color.Color, label string) error {
	var s spans
	s.add(at, min(max(v.Median, p.X.Min), p.X.Max), max(v.Low, p.X.Min), min(v.High, p.X.Max), false)
	bars, err := plotter.NewXErrorBars(&s)
	if err != nil {
		return err
	}
	bars.LineStyle.Color, bars.LineStyle.Width, bars.CapWidth = c, 1.6, 5
	points, err := plotter.NewScatter(s.XYs)
	if err != nil {
		return err
	}
	points.GlyphStyle = draw.GlyphStyle{Color: c, Radius: 3, Shape: draw.CircleGlyph{}}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: p.X.Max, Y: at}}, Labels: []string{label}})
	if err != nil {
		return err
	}
	labels.TextStyle[0] = textStyle(9, faint)
	labels.TextStyle[0].XAlign, labels.TextStyle[0].YAlign = draw.XLeft, draw.YCenter
	labels.Offset.X = 4
	p.Add(bars, points, labels)
	return nil
}

// band shades what lies between two values of x.
func band(p *plot.Plot, v interval, height float64) error {
	low, high := max(v.Low, p.X.Min), min(v.High, p.X.Max)
	bottom, top := -0.5, height-0.5
	area, err := plotter.NewPolygon(plotter.XYs{{X: low, Y: bottom}, {X: high, Y: bottom}, {X: high, Y: top}, {X: low, Y: top}})
	if err != nil {
		return err
	}
	area.Color, area.LineStyle.Width = shade, 0
	p.Add(area)
	return nil
}

// curve adds a line with vertical intervals, and its name to the legend.
func curve(p *plot.Plot, name string, xs []float64, values []interval) error {
	var s spans
	for i, x := range xs {
		s.add(x, values[i].Median, values[i].Low, values[i].High, true)
	}
	bars, err := plotter.NewYErrorBars(&s)
	if err != nil {
		return err
	}
	line, points, err := plotter.NewLinePoints(s.XYs)
	if err != nil {
		return err
	}
	c := colorOf(name)
	bars.LineStyle.Color, bars.LineStyle.Width, bars.CapWidth = c, 1, 5
	line.Color, line.Width = c, 1.8
	points.GlyphStyle = draw.GlyphStyle{Color: c, Radius: 3, Shape: draw.CircleGlyph{}}
	if c == another {
		line.Width, points.Radius = 1, 2
	}
	p.Add(bars, line, points)
	p.Legend.Add(name, line, points)
	return nil
}

// picture puts panels side by side, below a title and a line of smaller text, and returns the SVG.
func picture(title, small string, width, height vg.Length, panels ...*plot.Plot) ([]byte, error) {
	canvas := vgsvg.New(width, height)
	dc := draw.New(canvas)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	dc.FillText(textStyle(14, ink), vg.Point{X: 14, Y: height - 12}, title)
	dc.FillText(textStyle(9.5, faint), vg.Point{X: 14, Y: height - 32}, small)
	tiles := draw.Tiles{Rows: 1, Cols: len(panels), PadX: 40, PadLeft: 14, PadRight: 40, PadTop: 56, PadBottom: 10}
	for i, c := range plot.Align([][]*plot.Plot{panels}, tiles, dc)[0] {
		panels[i].Draw(c)
	}
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	// Who has no Liberation has Arial, which is as wide.
	return bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif")), err
}
