package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// moment is a line of the timeline.
type moment struct {
	at   time.Duration // since the kill
	text string
}

// picture is what the demo draws: successes of clients over time, and what happened.
// All times are since the kill.
type picture struct {
	heading string
	reads   []time.Duration
	writes  []time.Duration
	moments []moment
}

// Sizes of the picture in pixels, and the time that it shows before the kill and after the
// last moment.
const (
	width     = 920
	margin    = 20
	chartTop  = 62
	chartSize = 90
	rowSize   = 22
	barTime   = 25 * time.Millisecond
	around    = 400 * time.Millisecond
)

//go:embed picture.svg
var pictureLayout string

// bar is the successes within barTime.
type bar struct{ X, Y, Width, Height float64 }

// mark is a moment with its place on the axis and its row.
type mark struct {
	X, Row   float64
	At, Text string
}

// tick is a label of the axis.
type tick struct {
	X    float64
	Text string
}

// write writes the picture as SVG.
func (p picture) write(w io.Writer) error {
	end := around
	for _, m := range p.moments {
		end = max(end, m.at+around)
	}
	end = end.Truncate(100 * time.Millisecond)
	x := func(at time.Duration) float64 {
		return margin + float64(at+around)/float64(end+around)*(width-2*margin)
	}
	axis := float64(chartTop + chartSize)
	reads, writes := bars(p.reads, end), bars(p.writes, end)
	most := max(1, slices.Max(reads), slices.Max(writes))
	data := struct {
		Heading              string
		Width, Height        int
		Left, Right, Axis    float64
		Kill                 float64
		Reads, Writes        []bar
		Ticks                []tick
		Marks                []mark
		AxisText, TextX, Row float64
	}{
		Heading: p.heading, Width: width, Height: int(axis) + 42 + rowSize*len(p.moments),
		Left: margin, Right: width - margin, Axis: axis, Kill: x(0), AxisText: axis + 16, TextX: margin + 66, Row: rowSize,
	}
	draw := func(counts []int) []bar {
		var list []bar
		for i, n := range counts {
			if n == 0 {
				continue
			}
			from := x(time.Duration(i)*barTime - around)
			height := float64(n) / float64(most) * (chartSize - 8)
			list = append(list, bar{from, axis - height, x(time.Duration(i+1)*barTime-around) - from, height})
		}
		return list
	}
	data.Reads, data.Writes = draw(reads), draw(writes)
	for at := time.Duration(0); at <= end; at += 500 * time.Millisecond {
		data.Ticks = append(data.Ticks, tick{x(at), fmt.Sprintf("%.1f s", at.Seconds())})
	}
	for i, m := range p.moments {
		data.Marks = append(data.Marks, mark{x(m.at), axis + 42 + float64(rowSize*i), fmt.Sprintf("+%.3f s", m.at.Seconds()), m.text})
	}
	t, err := template.New("picture").Parse(pictureLayout)
	if err != nil {
		return err
	}
	return t.Execute(w, data)
}

// bars counts the successes in each barTime from around before the kill to end.
func bars(times []time.Duration, end time.Duration) []int {
	counts := make([]int, (end+around)/barTime)
	for _, at := range times {
		if i := int((at + around) / barTime); at >= -around && i < len(counts) {
			counts[i]++
		}
	}
	return counts
}

// drawTo writes the picture of this act to the file.
func (a *act) drawTo(file string) error {
	p := picture{heading: fmt.Sprintf(
		"A primary is killed: %d of %d clients were disconnected, %d writes acknowledged, none lost",
		len(a.load.disconnected), writers+readers, len(a.load.acked),
	)}
	since := func(times []time.Time) []time.Duration {
		var list []time.Duration
		for _, t := range times {
			list = append(list, t.Sub(a.kill))
		}
		return list
	}
	p.reads, p.writes = since(a.load.readTimes), since(a.load.ackTimes)
	for _, m := range a.moments {
		if !strings.HasPrefix(m.text, " ") { // output of scripts
			p.moments = append(p.moments, m)
		}
	}
	slices.SortStableFunc(p.moments, func(a, b moment) int { return int(a.at - b.at) })
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := p.write(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
