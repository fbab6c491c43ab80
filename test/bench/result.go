package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// results are the measurements of one run, or of several runs combined; each case is
// from one run.
type results struct {
	Runs     []machine
	Series   []series
	Failures []failure
}

// series is one metric of one target in one case, a value for each round.
type series struct {
	Case, Target, Metric string
	Values               []float64
}

// failure is a turn without results.
type failure struct{ Case, Target, Reason string }

func (r *results) fail(name, target string, err error) {
	reason, _, _ := strings.Cut(err.Error(), "\n")
	r.Failures = append(r.Failures, failure{name, target, reason})
}

func (r *results) add(name, target string, values map[string]float64) {
	for metric, v := range values {
		if s := r.find(name, target, metric); s != nil {
			s.Values = append(s.Values, v)
			continue
		}
		r.Series = append(r.Series, series{name, target, metric, []float64{v}})
	}
}

func (r *results) find(name, target, metric string) *series {
	for i := range r.Series {
		if s := &r.Series[i]; s.Case == name && s.Target == target && s.Metric == metric {
			return s
		}
	}
	return nil
}

// median returns the median of the rounds, false if there is none.
func (r *results) median(name, target, metric string) (float64, bool) {
	s := r.find(name, target, metric)
	if s == nil {
		return 0, false
	}
	return median(s.Values), true
}

// peer returns the first of the targets that was measured.
func (r *results) peer(name, metric string, among []target) (string, float64, bool) {
	for _, t := range among {
		if v, ok := r.median(name, t.name(), metric); ok && v > 0 {
			return t.name(), v, true
		}
	}
	return "", 0, false
}

// median returns the middle of the values, or the mean of the two in the middle.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// store keeps results for -from.
func (r *results) store(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep results: %w", err)
	}
	return nil
}

// loadResults combines the results of several runs. A case in two of them is an error:
// medians over two runs would compare values that weren't measured side by side.
func loadResults(files []string) (*results, error) {
	all := &results{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		var r results
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("read results of %s: %w", f, err)
		}
		for _, s := range r.Series {
			if slices.ContainsFunc(all.Series, func(o series) bool { return o.Case == s.Case }) {
				return nil, fmt.Errorf("case %s is in %s and in a file before it", s.Case, f)
			}
		}
		all.Runs = append(all.Runs, r.Runs...)
		all.Series = append(all.Series, r.Series...)
		all.Failures = append(all.Failures, r.Failures...)
	}
	if len(all.Series) == 0 {
		return nil, errors.New("there are no results")
	}
	return all, nil
}
