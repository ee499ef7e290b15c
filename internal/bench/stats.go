package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"golang.org/x/perf/benchmath"
)

const confidence = 0.95

// An interval is a median and where it lies with a confidence of 95 %. Order statistics give it,
// which assume nothing of the distribution but that the values do not depend on each other. Of fewer
// than six values there is no such interval: low and high are the extremes then.
type interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

func medianOf(values []float64) interval {
	if len(values) == 0 {
		return interval{math.NaN(), math.NaN(), math.NaN()}
	}
	s := benchmath.NewSample(slices.Clone(values), &benchmath.DefaultThresholds)
	sum := benchmath.AssumeNothing.Summary(s, confidence)
	if math.IsInf(sum.Lo, 0) || math.IsInf(sum.Hi, 0) {
		return interval{sum.Center, s.Values[0], s.Values[len(s.Values)-1]}
	}
	return interval{sum.Center, sum.Lo, sum.Hi}
}

// String is for ratios.
func (i interval) String() string {
	if i.Low == i.High {
		return fmt.Sprintf("%.3f", i.Median)
	}
	return fmt.Sprintf("%.3f [%.3f, %.3f]", i.Median, i.Low, i.High)
}

// values are written with the digits that mean something.
type values []float64

func (v values) MarshalJSON() ([]byte, error) {
	text := []byte{'['}
	for i, x := range v {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendFloat(text, x, 'g', 5, 64)
	}
	return append(text, ']'), nil
}

// ratios divides two lanes round by round.
func ratios(of, by []float64) []float64 {
	n := min(len(of), len(by))
	r := make([]float64, 0, n)
	for i := range n {
		if by[i] != 0 {
			r = append(r, of[i]/by[i])
		}
	}
	return r
}

// quantile is the value that the given part of the values does not exceed.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, cmp.Compare)
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// width is how far an interval reaches.
func (i interval) width() float64 { return i.High - i.Low }

// withinNoise is the verdict on a ratio that is smaller than the noise.
const withinNoise = "within the noise"

// verdict says what a ratio can be taken for, given the ratio of the reference to itself. A ratio
// counts only if its interval keeps clear of 1 and it is further from 1 than the noise floor is wide.
func verdict(ratio, floor interval) string {
	effect := math.Abs(ratio.Median - 1)
	switch {
	case ratio.Low <= 1 && ratio.High >= 1:
		return "no difference shown"
	case floor.Median > 0 && effect <= max(floor.width(), math.Abs(floor.Median-1)):
		return withinNoise
	case ratio.Median < 1:
		return "less"
	}
	return "more"
}
