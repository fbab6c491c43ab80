package screen

import (
	"fmt"
	"math"
	"time"
)

// Duration writes a time as people say it, with two units at most: 250ms, 4.2s, 3m12s,
// 5h04m, 12d03h. A negative time is unknown, and empty.
func Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return ""
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", math.Floor(d.Seconds()*10)/10)
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
}

// Seconds is Duration for a number of seconds, -1 for unknown.
func Seconds(s float64) string {
	if s > math.MaxInt32 {
		return fmt.Sprintf("%.0fs", s)
	}
	return Duration(time.Duration(s * float64(time.Second)))
}

// Bytes writes a size as PostgreSQL's pg_size_pretty does: with the unit that leaves
// fewer than five digits.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for ; n >= 10240 && i < len(units)-1; i++ {
		n = (n + 512) / 1024
	}
	return fmt.Sprintf("%d %s", n, units[i])
}

// blocks are the steps of a sparkline.
var blocks = []rune("▁▂▃▄▅▆▇█")

// Spark draws the last values as a line of blocks, n columns wide; the highest value is the
// highest block. Columns without a value stay empty, on the left.
func Spark(values []float64, n int) string {
	values = values[max(0, len(values)-n):]
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	line := make([]rune, 0, n)
	for range n - len(values) {
		line = append(line, ' ')
	}
	for _, v := range values {
		step := 0
		if top > 0 {
			step = int(v / top * float64(len(blocks)-1))
		}
		line = append(line, blocks[min(max(step, 0), len(blocks)-1)])
	}
	return string(line)
}
