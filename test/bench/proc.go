package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// stat is the needed part of /proc/PID/stat.
type stat struct {
	state  byte
	parent int
}

// parseStat reads fields 3 and 4 of proc(5).
func parseStat(text []byte) (stat, error) {
	// The name before it, in parentheses, may contain anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return stat{}, fmt.Errorf("only %d fields in a process's stat", len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, fmt.Errorf("parent in a process's stat: %w", err)
	}
	return stat{state: fields[0][0], parent: parent}, nil
}

// processorTime returns the CPU time of the living threads of a process, in
// nanoseconds. The times in stat are in ticks of 10 ms, and the kernel charges a whole
// tick to the process that runs when the clock ticks. The time of a thread that ends is
// lost; Go's threads seldom end.
func processorTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, fmt.Errorf("list threads: %w", err)
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it has just ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time of a thread: %w", err)
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// usage is a tree of processes at one moment.
type usage struct {
	pids []int // of those that live, sorted
	cpu  time.Duration
}

// treeUsage measures a process and all its descendants.
func treeUsage(root int) (usage, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return usage{}, fmt.Errorf("list processes: %w", err)
	}
	stats, children := map[int]stat{}, map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has just ended
		}
		s, err := parseStat(text)
		if err != nil {
			return usage{}, err
		}
		stats[pid] = s
		children[s.parent] = append(children[s.parent], pid)
	}
	if _, ok := stats[root]; !ok {
		return usage{}, errors.New("the pooler has ended")
	}
	var u usage
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		s := stats[queue[0]]
		if s.state != 'Z' {
			u.pids = append(u.pids, queue[0])
			spent, err := processorTime(queue[0])
			if err != nil {
				return usage{}, err
			}
			u.cpu += spent
		}
		queue = append(queue, children[queue[0]]...)
	}
	slices.Sort(u.pids)
	return u, nil
}

// since returns the CPU time from before to now. It is an error if a process has
// started or ended meanwhile.
func (u usage) since(before usage) (time.Duration, error) {
	if !slices.Equal(before.pids, u.pids) {
		return 0, fmt.Errorf("the pooler's processes were %v and are %v", before.pids, u.pids)
	}
	return u.cpu - before.cpu, nil
}

// pss returns the memory of processes in bytes: private memory, and each one's part of
// shared memory.
func pss(pids []int) (float64, error) {
	sum := 0.0
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("read memory of a process: %w", err)
		}
		n, err := parsePSS(string(text))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func parsePSS(text string) (float64, error) {
	for line := range strings.Lines(text) {
		value, ok := strings.CutPrefix(line, "Pss:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("memory of a process: %w", err)
		}
		return float64(kib) * 1024, nil
	}
	return 0, errors.New("no Pss in smaps_rollup")
}
