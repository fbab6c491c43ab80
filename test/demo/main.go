package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// limit bounds the whole demo; it takes a quarter of that on a small machine.
const limit = 2 * time.Minute

func main() {
	o := options{}
	flag.StringVar(&o.pipeline, "pipeline", "session", "`pipeline` of pgagroal: session or transaction")
	flag.BoolVar(&o.keepSync, "keep-sync", false, "leave synchronous replication on at promotion, so that commits wait for the notify script")
	flag.DurationVar(&o.script, "script", 300*time.Millisecond, "least `time` that the failover script takes")
	flag.StringVar(&o.picture, "picture", "", "draw what happened into this `file`, as SVG")
	flag.BoolVar(&o.verbose, "v", false, "show the log of pgagroal, too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, o, flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, o options, name string) error {
	switch name {
	case "":
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return show(ctx, o)
	case "up":
		return up(ctx, o, keptDir())
	case "serve": // started by up
		return serve(ctx, o, keptDir())
	case "down":
		return down(keptDir())
	}
	return fmt.Errorf("unknown command %q; use up or down, or none for the demo", name)
}

// show is the demo itself.
func show(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "pgagroal-demo")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s := newStage(dir, o)
	defer func() {
		if err != nil && ctx.Err() != context.Canceled {
			s.dump(os.Stderr)
		}
		err = errors.Join(err, s.close(), os.RemoveAll(dir))
	}()
	fmt.Println("Starting a primary, two synchronous standbys and pgagroal ...")
	if err := s.open(ctx); err != nil {
		return err
	}
	fmt.Print(s.intro())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	act := newAct(s)
	err = act.play(ctx)
	if err == nil {
		return act.report(ctx)
	}
	cancel() // processes that hang must end as well
	act.load.stop()
	return err
}

// hopeless is an error that waiting doesn't cure.
type hopeless struct{ error }

// until returns when cond returns nil or something hopeless, and cond's last error
// at the end of ctx.
func until(ctx context.Context, what string, cond func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		if h := (hopeless{}); errors.As(err, &h) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
