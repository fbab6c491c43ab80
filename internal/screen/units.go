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
