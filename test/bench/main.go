package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"
)

// options of the command line.
type options struct {
	cases    string
	rounds   int
	duration time.Duration // of one measurement with pgbench
	warmup   time.Duration
	scale    int // of pgbench's tables
	jobs     int // threads of pgbench
	pin      bool
	clients  int           // that are idle in the memory case
	settle   time.Duration // from the last query of idle clients to the look at memory
	window   time.Duration // in which the processor time of idle clients is taken
	write    string        // file whose tables are replaced
	save     string        // file that gets the results
	from     string        // files of results to show instead of measuring
	list     bool
	before   string // directory of another build's programs
	targets  string // patterns of their names
	newer    string // path of another PgBouncer
}

// leastRounds is how many rounds are needed before figures are written down.
const leastRounds = 5

func main() {
	if len(os.Args) > 1 && os.Args[1] == relayCommand {
		if err := runRelay(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		return
	}
	o := options{}
	flag.StringVar(&o.cases, "cases", "*", "`patterns` of the cases, with commas between them; -list shows all")
	flag.StringVar(&o.targets, "targets", "*", "`patterns` of the targets, with commas between them; -list shows all")
	flag.IntVar(&o.rounds, "rounds", leastRounds, "`number` of rounds")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "`time` of one measurement with pgbench, whole seconds")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "`time` of load before it, whole seconds")
	flag.IntVar(&o.scale, "scale", 10, "`scale` of pgbench's tables")
	flag.IntVar(&o.jobs, "jobs", 2, "`threads` of pgbench")
	flag.BoolVar(&o.pin, "pin", false, "give the pooler the last processor and everything else the others")
	flag.IntVar(&o.clients, "idle", 10000, "`number` of idle clients whose memory is measured; the limit of open files may lower it")
	flag.DurationVar(&o.settle, "settle", time.Minute, "`time` from the last query of idle clients to the look at memory")
	flag.DurationVar(&o.window, "window", 10*time.Second, "`time` in which the processor time of idle clients is taken")
	flag.StringVar(&o.write, "write", "", "put the tables between the markers in `file`, doc/PERFORMANCE.md")
	flag.StringVar(&o.save, "save", "", "keep the results in `file`")
	flag.StringVar(&o.from, "from", "", "show the results kept in `files`, with commas between them, and measure nothing")
	flag.BoolVar(&o.list, "list", false, "list cases and targets")
	flag.StringVar(&o.before, "before", "", "measure the programs of another build beside these: their `directory`")
	flag.StringVar(&o.newer, "pgbouncer", "", "measure another PgBouncer as well: `path` of its program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, o options) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	chosen, err := choose(o.cases, o.targets)
	if err != nil {
		return err
	}
	if o.list {
		return list(chosen)
	}
	var res *results
	if o.from != "" {
		res, err = loadResults(strings.Split(o.from, ","))
	} else {
		res, err = measureAll(ctx, o, chosen)
	}
	if res == nil {
		return err
	}
	fmt.Print(report(res))
	if o.save != "" {
		err = errors.Join(err, res.store(o.save))
	}
	if len(res.Failures) > 0 {
		err = errors.Join(err, fmt.Errorf("%d measurements failed, see above", len(res.Failures)))
	}
	if err != nil || o.write == "" {
		return err
	}
	return publish(o.write, res)
}

// publish writes the tables, if there were enough rounds.
func publish(file string, res *results) error {
	for _, m := range res.Runs {
		if m.Rounds < leastRounds {
			return fmt.Errorf("%d rounds are too few to be written down, at least %d are needed", m.Rounds, leastRounds)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	changed, err := replaceMarked(string(text), report(res))
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// choose returns the cases that a pattern fits, with those of their targets that one fits.
func choose(cases, targets string) ([]workload, error) {
	var chosen []workload
	for _, w := range workloads() {
		ok, err := fits(cases, w.name)
		if err != nil {
			return nil, err
		}
		var kept []target
		for _, t := range w.targets {
			named, err := fits(targets, t.name())
			if err != nil {
				return nil, err
			}
			if named {
				kept = append(kept, t)
			}
		}
		if ok && len(kept) > 0 {
			w.targets = kept
			chosen = append(chosen, w)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no case matches %q with a target that matches %q; -list shows all", cases, targets)
	}
	return chosen, nil
}

// fits reports whether one of the patterns, which have commas between them, is for a name.
func fits(patterns, name string) (bool, error) {
	for p := range strings.SplitSeq(patterns, ",") {
		ok, err := path.Match(strings.TrimSpace(p), name)
		if err != nil {
			return false, fmt.Errorf("pattern %q: %w", p, err)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}

func list(chosen []workload) error {
	for _, w := range chosen {
		fmt.Printf("%-20s %s\n", w.name, w.title)
		for _, t := range w.targets {
			fmt.Printf("%-20s   %s\n", "", t.name())
		}
	}
	return nil
}
