package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/logline"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	errOut := logline.NewQueue(os.Stderr)
	code := run(ctx, os.Args, os.Stdout, errOut)
	stop()
	errOut.Close(logline.FlushLimit)
	os.Exit(code)
}
